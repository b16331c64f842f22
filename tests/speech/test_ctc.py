import json
import shutil

import numpy as np
import pytest
import torch
import torchaudio
from torchaudio.pipelines import MMS_FA
from torchaudio.pipelines._wav2vec2 import utils as pipeline_utils
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    Wav2Vec2Processor,
)

from raystt.config import CorpusConfig
from raystt.preparation import operators
from raystt.speech import SAMPLE_RATE, ctc
from raystt.speech.alignment import AlignmentError
from raystt.speech.ctc import (
    CtcAligner,
    CtcEncoder,
    EqualAligner,
    MmsAligner,
    aligner,
    is_encoder,
)
from raystt.speech.emission import Alphabet, word_starts
from raystt.speech.encoders import TransformersEncoder
from raystt.speech.network import EncoderError

PITCHES = {"A": 300.0, "B": 700.0, "C": 1500.0, "D": 3100.0}
LETTER, PAUSE = 0.12, 0.2  # seconds


def emission(path: str, letters: str = "-abc|") -> np.ndarray:
    """Log probabilities [frames, labels] in which each letter of `path` is nearly sure."""
    found = np.full((len(path), len(letters)), np.log(1e-4), dtype=np.float32)
    for frame, letter in enumerate(path):
        found[frame, letters.index(letter)] = np.log(0.999)
    return found


@pytest.mark.parametrize(
    ("path", "words", "expected"),
    [
        ("--aab-|cc-", ["ab", "c"], [2, 6]),
        ("a-a|b", ["aa", "b"], [0, 3.5]),
        ("-aab-|c-|", ["ab", "c"], [1, 5]),
        # a word without labels has no start; no delimiter is asked for it
        ("--aa|-cc-", ["a", "", "c"], [2, None, 5]),
        ("--aa|-cc-", ["", "a", "c", ""], [None, 2, 5, None]),
        # as many frames as labels, and a blank between equal ones
        ("a|b", ["a", "b"], [0, 1.5]),
        ("b|-b", ["b", "b"], [0, 2]),
        # too few frames; no labels
        ("ab", ["a", "b"], None),
        ("aa", ["aa"], None),
        ("", ["a"], None),
        ("abc", ["", ""], None),
        ("abc", [], None),
    ],
)
def test_starts_of_an_obvious_emission(path, words, expected):
    labels = [["-abc|".index(letter) for letter in word] for word in words]
    assert word_starts(emission(path), labels, blank=0, delimiter=4) == expected


def test_the_best_path_is_found_without_a_delimiter():
    # Frame 3 holds both letters: "a" is likelier there, so "b" starts behind it.
    given = emission("-aa-bb-")
    given[3] = np.log([1e-4, 0.6, 0.399, 1e-4, 1e-4])
    assert word_starts(given, [[1], [2]], blank=0, delimiter=None) == [1, 4]
    given[3] = np.log([1e-4, 0.399, 0.6, 1e-4, 1e-4])
    assert word_starts(given, [[1], [2]], blank=0, delimiter=None) == [1, 3]
    # Any label may be the blank.
    assert word_starts(emission("||a||"), [[1]], blank=4, delimiter=None) == [2]


LATIN = {letter: label for label, letter in enumerate("abcdefghijklmnopqrstuvwxyz'é", start=3)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Don\u2019t,", "don't"),
        ("été", "été"),
        ("e\u0301te\u0301", "été"),  # combining accents
        ("Ångström-ß", "aangstroemss"),
        ("Привет!", "privet"),
        ("x-ray", "xray"),
        ("42", ""),
        ("3rd", "rd"),
        ("—", ""),
        ("😀", ""),
        ("नेपाल", "nepaal"),
    ],
)
def test_words_are_spelled_in_the_alphabet(word, expected):
    assert Alphabet(LATIN, 0, None, "xx").spell(word) == [LATIN[letter] for letter in expected]


def test_the_alphabet_decides_the_case_and_the_digits():
    upper = Alphabet({"A": 1, "B": 2, "4": 3}, 0, None, "en")
    assert upper.spell("aB4c") == [1, 2, 3]
    both = Alphabet({"A": 1, "a": 2}, 0, None, "en")
    assert both.spell("aA") == [2, 1]
    cyrillic = Alphabet({"п": 1, "p": 2}, 0, None, "ru")
    assert cyrillic.spell("Пp") == [1, 2]


def spoken(text: str, pause: float = PAUSE) -> tuple[np.ndarray, list[float]]:
    """A tone for each letter, silence between words: waveform and starts of words, seconds."""
    rng = np.random.default_rng(len(text))
    time = np.arange(int(LETTER * SAMPLE_RATE)) / SAMPLE_RATE
    parts, starts = [np.zeros(int(pause * SAMPLE_RATE))], []
    for word in text.split():
        starts.append(sum(map(len, parts)) / SAMPLE_RATE)
        parts += [0.3 * np.sin(2 * np.pi * PITCHES[letter] * time) for letter in word.upper()]
        parts.append(np.zeros(int(pause * SAMPLE_RATE)))
    wave = np.concatenate(parts)
    return (wave + 1e-3 * rng.standard_normal(len(wave))).astype(np.float32), starts


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Save a CTC model that hears the tones of `spoken`: random but for its solved head."""
    path = tmp_path_factory.mktemp("ctc")
    vocabulary = {"<unk>": 0, "|": 1, "A": 2, "B": 3, "C": 4, "D": 5, "<pad>": 6}
    (path / "vocabulary.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(path / "vocabulary.json", word_delimiter_token="|")
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    torch.manual_seed(1)
    config = Wav2Vec2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        conv_dim=(64,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer", do_stable_layer_norm=True, vocab_size=7, pad_token_id=6,
    )  # fmt: skip
    model = Wav2Vec2ForCTC(config).eval()
    states, targets = [], []
    for text in ("ab cd", "dc ba", "aacc bd", "c a d b"):
        wave, _ = spoken(text)
        inputs = extractor([wave], sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            states.append(model.wav2vec2(inputs.input_values).last_hidden_state[0].clone())
        parts, heard = ["-"] * int(PAUSE / 0.01), ["-"]
        heard = parts + [c for word in text.split() for c in _frames(word)]
        for frame in range(len(states[-1])):
            target = torch.full((7,), 0.0)
            letter = heard[min(2 * frame + 1, len(heard) - 1)]  # its middle
            target[6 if letter == "-" else vocabulary[letter]] = 20.0
            target[1] = 15.0 if letter == "-" else 0.0  # the delimiter is silent
            targets.append(target)
    x = torch.cat(states).double()
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    y = torch.stack(targets).double()
    solved = torch.linalg.solve(x.T @ x + 1e-4 * torch.eye(65), x.T @ y).float()
    with torch.no_grad():
        model.lm_head.weight.copy_(solved[:64].T)
        model.lm_head.bias.copy_(solved[64])
    model.save_pretrained(path)
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(path)
    return path


def _frames(word: str) -> str:
    """What is heard of a word and the pause behind it, every 10 ms."""
    letters = "".join(letter * round(LETTER / 0.01) for letter in word.upper())
    return letters + "-" * round(PAUSE / 0.01)


def test_words_are_found_where_they_are_spoken(tones):
    texts = ["ab cd", "d b ca", "Cab, dab", "bad 7 cad"]
    said = [spoken("".join(c for c in text if c.isalpha() or c == " ")) for text in texts]
    find = CtcAligner(tones, "xx")
    found = find.words([wave for wave, _ in said], texts)
    for text, (_, starts), marks in zip(texts, said, found, strict=True):
        words = {i: word for i, word in enumerate(text.split()) if word != "7"}
        assert [word for word, _ in marks] == list(words)
        letters = [sum(map(str.isalpha, word)) for word in words.values()]
        ends = np.array(starts) + LETTER * np.array(letters)
        middles = [starts[0], *(ends[:-1] + starts[1:]) / 2]  # of the pauses
        errors = np.array([seconds for _, seconds in marks]) - middles
        assert np.abs(errors).max() <= 0.04, (text, errors)
    # Batch mates do not matter.
    for (wave, _), text, marks in zip(said, texts, found, strict=True):
        assert find.words([wave], [text]) == [marks]


@pytest.mark.parametrize("layer", [0, 1, 2, None])
def test_one_pass_gives_what_encoder_and_aligner_give(tones, layer):
    texts = ["ab cd", "dcba", "a"]
    waves = [spoken(text)[0] for text in texts]
    features, emissions = CtcEncoder(tones, layer).hear(waves)
    for mine, own in zip(features, TransformersEncoder(tones, layer).features(waves), strict=True):
        np.testing.assert_array_equal(mine, own)
    aligns = CtcAligner(tones, "xx")
    assert aligns.marks(emissions, texts) == aligns.words(waves, texts)
    with pytest.raises(EncoderError, match="layer 3: it has 2; choose 0 to 2"):
        CtcEncoder(tones, 3)


def test_a_network_is_loaded_once_where_it_is_encoder_and_aligner(tones, tmp_path):
    def hears(aligns):
        corpus = CorpusConfig(
            path=str(tmp_path), languages={"es": {"train": 1}},
            units={"encoder": str(tones), "layer": 1},
            alignment={"method": "ctc", "model": str(aligns)},
        )  # fmt: skip
        return operators._hear(tmp_path, corpus, aligns, "cpu")([spoken("ab")[0]])

    features, emissions = hears(tones)
    shutil.copytree(tones, tmp_path / "other")
    other, none = hears(tmp_path / "other")
    assert emissions is not None and none is None
    np.testing.assert_array_equal(features[0], other[0])
    config = Wav2Vec2Config.from_pretrained(tones, add_adapter=True)
    config.save_pretrained(tmp_path / "other")
    assert is_encoder(tones) and not is_encoder(tmp_path / "other")


def test_sentences_that_cannot_be_aligned_have_no_marks(tones):
    wave, starts = spoken("ab")
    short = np.zeros(100, np.float32)
    texts = ["ab", "7 ?", "", "abcd " * 99, "ab", "a"]
    found = CtcAligner(tones, "xx").words([wave, wave, wave, wave, short, short], texts)
    assert found[1:] == [None, None, None, None, ((0, 0.0),)]
    assert found[0] == ((0, pytest.approx(starts[0], abs=0.04)),)


def test_models_that_cannot_align_are_refused(tones, tmp_path):
    backbone = Wav2Vec2Model.from_pretrained(tones)
    backbone.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="2 weights of Wav2Vec2ForCTC are not in it .*lm_head"):
        CtcAligner(tmp_path, "en")
    Wav2Vec2ForCTC.from_pretrained(tones).save_pretrained(tmp_path)
    with pytest.raises(AlignmentError, match="its tokenizer cannot be loaded"):
        CtcAligner(tmp_path, "en")
    ctc._ctc_network.cache_clear()
    pieces = {"<pad>": 0, "<unk>": 1, "ab": 2, "cd": 3, "a": 4, "b": 5}
    (tmp_path / "pieces.json").write_text(json.dumps(pieces))
    Wav2Vec2CTCTokenizer(tmp_path / "pieces.json").save_pretrained(tmp_path)
    with pytest.raises(AlignmentError, match="2 of its 4 labels are single letters"):
        CtcAligner(tmp_path, "en")


@pytest.fixture
def small_mms(monkeypatch):
    """The bundle with a small network in place of the one that is downloaded."""
    convolutions = [
        (16, kernel, stride) for _, kernel, stride in MMS_FA._params["extractor_conv_layer_config"]
    ]
    small = {
        **MMS_FA._params, "encoder_embed_dim": 32, "encoder_num_layers": 2,
        "encoder_num_heads": 2, "encoder_ff_interm_features": 48,
        "extractor_conv_layer_config": convolutions,
    }  # fmt: skip
    torch.manual_seed(0)
    network = torchaudio.models.wav2vec2_model(**small)
    with torch.no_grad():
        network.aux.weight.mul_(30)

    def download(url):
        weights = network.state_dict()
        for name in ("aux.weight", "aux.bias"):  # fairseq's three special labels follow the blank
            blank, letters = weights[name][:1], weights[name][1:]
            weights[name] = torch.cat([blank, torch.zeros(3, *blank.shape[1:]), letters])
        return weights

    monkeypatch.setattr(MMS_FA, "_params", small)
    monkeypatch.setattr(pipeline_utils, "load_state_dict_from_url", download)
    ctc._mms_network.cache_clear()
    yield
    ctc._mms_network.cache_clear()


def test_mms_aligns_as_its_bundle_does(small_mms):
    texts = ["hello world", "Привет, 2 мира", "it's x-ray"]
    spelled = [["hello", "world"], ["privet", "mira"], ["it's", "xray"]]
    marked = [[0, 1], [0, 2], [0, 1]]
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(n).astype(np.float32) for n in (16000, 30000, 21111)]
    found = MmsAligner("ru").words(waves, texts)
    model, tokenize, align = MMS_FA.get_model(False), MMS_FA.get_tokenizer(), MMS_FA.get_aligner()
    for wave, words, indices, marks in zip(waves, spelled, marked, found, strict=True):
        with torch.inference_mode():
            probabilities, _ = model(torch.from_numpy(wave)[None])
            spans = align(probabilities[0], tokenize(words))
        expected = [spans[0][0].start * 0.02] + [
            (a[-1].end + b[0].start) * 0.01 for a, b in zip(spans, spans[1:], strict=False)
        ]
        assert [word for word, _ in marks] == indices
        assert [seconds for _, seconds in marks] == pytest.approx(expected)
        assert len(set(expected)) > 1
    assert MmsAligner("en").words([np.zeros(10, np.float32)], ["too long"]) == [None]


def test_weights_of_mms_that_cannot_be_had(monkeypatch):
    def offline(url):
        raise OSError("no network")

    monkeypatch.setattr(pipeline_utils, "load_state_dict_from_url", offline)
    monkeypatch.setattr(MMS_FA, "_params", {**MMS_FA._params, "encoder_num_layers": 1})
    ctc._mms_network.cache_clear()
    with pytest.raises(AlignmentError, match=r"cannot download its weights \(no network\); copy"):
        MmsAligner("en")


def test_equal_words():
    wave = np.zeros(SAMPLE_RATE, np.float32)
    found = EqualAligner().words([wave, wave, wave], ["a b c d", "one", " "])
    assert found == [((0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)), ((0, 0.0),), None]


def test_aligners_by_name(tones):
    assert isinstance(aligner("ctc", tones, language="en"), CtcAligner)
    assert isinstance(aligner("equal", None, language="en"), EqualAligner)
    with pytest.raises(AlignmentError, match="`method: ctc` needs a CTC model"):
        aligner("ctc", None, language="en")
    with pytest.raises(AlignmentError, match="alignment.method marks: choose from"):
        aligner("marks", None, language="en")
