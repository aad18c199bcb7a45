// Marks the section being read in the table of contents.
const links = new Map([...document.querySelectorAll("nav a[href^='#']")].map(a => [a.hash.slice(1), a]));
const seen = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) {
    const link = links.get(target.id);
    if (!isIntersecting || !link) continue;
    for (const other of links.values()) other.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    const nav = link.parentElement;
    if (nav.scrollWidth > nav.clientWidth) nav.scrollTo({ left: link.offsetLeft - nav.clientWidth / 2, behavior: "smooth" });
  }
}, { rootMargin: "-20% 0px -70% 0px" });
document.querySelectorAll("section[id]").forEach(section => seen.observe(section));
