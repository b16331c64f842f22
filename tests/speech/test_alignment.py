import numpy as np
import pytest
from codebooks import fit_codebook
from hypothesis import given
from hypothesis import strategies as st

from raystt.readers.grammar import pairs
from raystt.speech.alignment import AlignmentError, align
from raystt.speech.encoders import MfccEncoder
from raystt.speech.units import deduplicate

FRAME = 0.06


def cut(marks, words, durations):
    found = align(marks, words, np.array(durations), FRAME)
    return found.word_offsets.tolist(), found.unit_offsets.tolist()


@pytest.mark.parametrize(
    ("marks", "words", "durations", "expected"),
    [
        # a mark on a border, and one inside a unit that goes to the nearer border
        ([(0, 0.0), (1, 0.12)], 2, [1, 1, 2], ([0, 1, 2], [0, 2, 3])),
        ([(0, 0.0), (1, 0.14)], 2, [1, 1, 2], ([0, 1, 2], [0, 2, 3])),
        ([(0, 0.0), (1, 0.22)], 2, [1, 1, 2, 1], ([0, 1, 2], [0, 3, 4])),
        # silence before the first word belongs to it
        ([(0, 0.1), (1, 0.12)], 2, [1, 1, 2], ([0, 1, 2], [0, 2, 3])),
        # fused words ("on the") have one mark
        ([(0, 0.0), (1, 0.06), (3, 0.12)], 4, [1, 1, 1], ([0, 1, 3, 4], [0, 1, 2, 3])),
        # words too short to get a unit join the group before, the first ones the group behind
        ([(0, 0.0), (1, 0.06), (2, 0.07), (3, 0.12)], 4, [1, 1, 1], ([0, 1, 3, 4], [0, 1, 2, 3])),
        ([(0, 0.0), (1, 0.01), (2, 0.06)], 3, [1, 1], ([0, 2, 3], [0, 1, 2])),
        # a word marked behind the last border
        ([(0, 0.0), (1, 0.3)], 2, [1, 1], ([0, 2], [0, 2])),
        # no mark at all, no first mark, one unit
        ([], 3, [1, 1], ([0, 3], [0, 2])),
        ([(1, 0.06)], 3, [1, 1], ([0, 1, 3], [0, 1, 2])),
        ([(0, 0.0), (1, 0.2)], 2, [9], ([0, 2], [0, 1])),
    ],
)  # fmt: skip
def test_groups(marks, words, durations, expected):
    assert cut(marks, words, durations) == expected


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=12),
    st.lists(st.integers(1, 5), min_size=1, max_size=30),
)
def test_groups_cover_everything_once(times, durations):
    marks = list(enumerate(sorted(times)))
    found = align(marks, len(times), np.array(durations), FRAME)
    for offsets, total in (
        (found.word_offsets, len(times)),
        (found.unit_offsets, len(durations)),
    ):
        assert offsets[0] == 0
        assert offsets[-1] == total
        assert (np.diff(offsets) >= 1).all()
    assert len(found.word_offsets) == len(found.unit_offsets)


@pytest.mark.parametrize(
    ("marks", "words", "durations", "reason"),
    [
        ([], 0, [1], "0 words to 1 units"),
        ([], 1, [], "1 words to 0 units"),
        ([(0, 0.0), (2, 0.1)], 2, [1, 1], r"mark \(word 2, 0.100 s\) .* of 2 words"),
        ([(0, 0.0), (1, 0.2), (1, 0.3)], 2, [1, 1], "must rise in both"),
        ([(0, 0.2), (1, 0.1)], 2, [1, 1], "must rise in both"),
    ],
)
def test_marks_that_do_not_fit_are_refused(marks, words, durations, reason):
    with pytest.raises(AlignmentError, match=reason):
        cut(marks, words, durations)


@pytest.mark.parametrize(("language", "voice"), [("es", "es"), ("fr", "fr"), ("en", "en-us")])
def test_real_speech_is_cut_near_its_word_marks(language, voice):
    tts = pytest.importorskip("raystt.speech.tts")
    pytest.importorskip("espeakng_loader")
    synthesizer = tts.EspeakSynthesizer(tts.Voice(voice))
    drawn = pairs("es" if language == "en" else language, "train", 12, seed=1)
    texts = [p.target if language == "en" else p.source for p in drawn]
    spoken = [synthesizer.speak(text) for text in texts]
    frames = MfccEncoder().features([speech.waveform for speech in spoken])
    codebook = fit_codebook(np.concatenate(frames), 60, seed=1, encoder="mfcc")
    groups = total = 0
    for text, speech, frame in zip(texts, spoken, frames, strict=True):
        units, durations = deduplicate(codebook.assign(frame))
        found = align(speech.words, len(text.split()), durations, FRAME)
        assert found.unit_offsets[0] == 0
        assert found.unit_offsets[-1] == len(units)
        assert (np.diff(found.unit_offsets) >= 1).all()
        seconds = np.append(0, np.cumsum(durations))[found.unit_offsets] * FRAME
        starts = dict(speech.words)
        for word, start in zip(found.word_offsets[1:-1], seconds[1:-1], strict=True):
            # half of the longest run of equal units is how far a border can lie from its mark
            assert abs(start - starts[word]) <= durations.max() * FRAME / 2 + 1e-6
        groups += len(found.word_offsets) - 1
        total += len(text.split())
    assert groups > 0.9 * total
