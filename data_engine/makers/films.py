"""What makers of films share: the films a sample shows, a span of one as a sample of its own, and equal pieces."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from data_engine.making import Outcome, Unmade, derived, faulty
from data_engine.media import MediaError
from data_engine.sample import Media, Message, Part, Sample
from data_engine.shots import Span


def film_of(sample: Sample) -> Media | None:
    """The one video, or span of one, that a sample shows."""
    return sample.media[0] if len(sample.media) == 1 and sample.media[0].kind == "video" else None


def of_each_film(
    samples: Sequence[Sample], work: Callable[[Sample, Media], Iterator[Outcome]], otherwise: str
) -> Iterator[Outcome]:
    """What `work` makes of every film of every sample; `otherwise` is said of a sample that shows none.

    A film that cannot be read (MediaError, OSError) is a fault of its sample.
    """
    for sample in samples:
        films = [item for item in sample.media if item.kind == "video"]
        if not films:
            yield Unmade(sample, otherwise)
        for film in films:
            try:
                yield from work(sample, film)
            except (MediaError, OSError) as error:
                yield faulty(sample, "media", str(error))


def footage(sample: Sample, film: Media, span: Span, name: str) -> Sample:
    """A span of a film as a document of its video alone; `name` and the span tell it from its siblings."""
    start, end = span
    message = Message("document", (Part("video", media=(0,)),))
    media = [Media("video", film.key, start, end)]
    return derived([sample], sample.task, [message], media, "video", f"{name}={start:g},{end:g}")


def equal_pieces(span: Span, longest: float, digits: int) -> list[Span]:
    """A span in as few equal pieces as are not longer than `longest` seconds; edges rounded to `digits`."""
    start, end = span
    parts = max(1, -int(-(end - start) // longest))
    edges = [round(start + (end - start) * place / parts, digits) for place in range(parts + 1)]
    return list(pairwise(edges))
