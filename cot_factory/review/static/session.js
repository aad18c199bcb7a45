// What every page has: requests that carry the session's token, and signing out.
"use strict";

const csrf = document.querySelector("[data-csrf]")?.dataset.csrf ?? "";

async function send(address, body) {
  return fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(body),
  });
}

document.getElementById("sign-out")?.addEventListener("click", async () => {
  await send("/sign-out", {});
  location.href = "/sign-in";
});
