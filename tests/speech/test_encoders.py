import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    HubertConfig,
    HubertModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from raystt.speech import SAMPLE_RATE
from raystt.speech.encoders import (
    MfccEncoder,
    TransformersEncoder,
    encoder,
    encoder_name,
    frame_seconds,
)
from raystt.speech.network import EncoderError, in_batches

LAYERS = 3
SMALL = {
    "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "intermediate_size": 48,
}  # fmt: skip
CONVS = {
    **SMALL, "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
LARGE = {**CONVS, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
BASE = {**CONVS, "feat_extract_norm": "group"}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 1, "vocab_size": 20}

FAMILIES = {
    "wav2vec2-large, XLS-R": (Wav2Vec2Model, Wav2Vec2Config, LARGE),
    "wav2vec2-base": (Wav2Vec2Model, Wav2Vec2Config, BASE),
    "wav2vec2 CTC": (Wav2Vec2ForCTC, Wav2Vec2Config, {**LARGE, **ADAPTER}),
    "hubert-large": (HubertModel, HubertConfig, LARGE),
    "hubert-base, mHuBERT": (HubertModel, HubertConfig, BASE),
    "hubert, batch norm": (HubertModel, HubertConfig, {**LARGE, "conv_pos_batch_norm": True}),
    "wavlm-large": (WavLMModel, WavLMConfig, LARGE),
    "wavlm-base": (WavLMModel, WavLMConfig, BASE),
    "w2v-bert": (Wav2Vec2BertModel, Wav2Vec2BertConfig, SMALL),
    "w2v-bert CTC": (Wav2Vec2BertForCTC, Wav2Vec2BertConfig, {**SMALL, **ADAPTER}),
}


def waves(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in lengths]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Build a tiny model of a family once: (directory, model, feature extractor)."""
    built = {}

    def build(family):
        if family not in built:
            factory, config, keys = FAMILIES[family]
            torch.manual_seed(0)
            model = factory(config(**keys)).eval()
            with torch.no_grad():  # as initialised, layers hardly change what they are given
                for name, weight in model.named_parameters():
                    if ".layers." in name and weight.ndim == 2:
                        weight.mul_(8)
                for name, buffer in model.named_buffers():
                    if name.endswith("running_mean"):
                        buffer.add_(0.5)  # makes the batch norm of a silent frame other than zero
            if "bert" in family and "hubert" not in family:
                extractor = SeamlessM4TFeatureExtractor(padding_value=1)  # as w2v-bert-2.0's
            else:
                masked = keys["feat_extract_norm"] == "layer"
                extractor = Wav2Vec2FeatureExtractor(return_attention_mask=masked)
            path = tmp_path_factory.mktemp("model")
            model.save_pretrained(path)
            extractor.save_pretrained(path)
            built[family] = path, model, extractor
        return built[family]

    return build


@pytest.mark.parametrize(
    ("name", "samples", "frames"),
    [
        *(("mfcc", *sizes) for sizes in [(0, 1), (479, 1), (481, 1), (960, 1), (16000, 17)]),
        *(("mfcc_20ms", *sizes) for sizes in [(0, 1), (320, 1), (490, 2), (16000, 50)]),
    ],
)
def test_frames_of_mfcc_are_as_long_as_their_name_says(name, samples, frames):
    mfcc = encoder(name, None)
    (found,) = mfcc.features(waves(samples))
    assert found.shape == (frames, mfcc.dimension) == (frames, 40)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert mfcc.name == name
    assert mfcc.frame_seconds == frame_seconds(name) == {"mfcc": 0.06, "mfcc_20ms": 0.02}[name]


def test_long_frames_are_means_of_short_ones():
    (wave,) = waves(9600)
    (short,), (long,) = (MfccEncoder(name).features([wave]) for name in ("mfcc_20ms", "mfcc"))
    np.testing.assert_allclose(short.reshape(10, 3, -1).mean(axis=1), long, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_those_of_transformers(saved, family):
    path, model, extractor = saved(family)
    (wave,) = waves(16000)
    inputs = extractor([wave], sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt")
    base = getattr(model, model.base_model_prefix, model)
    with torch.inference_mode():
        hidden = base(**inputs, output_hidden_states=True).hidden_states
    assert len(hidden) == LAYERS + 1
    for layer in (0, 2, None):
        reference = hidden[-1 if layer is None else layer][0].numpy()
        speech = TransformersEncoder(path, layer)
        (found,) = speech.features([wave])
        assert found.dtype == np.float32
        assert found.shape == reference.shape == (49, speech.dimension)
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)
    for below, above in zip(hidden, hidden[1:], strict=False):
        assert (below - above).abs().max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_results_do_not_depend_on_batch_mates(saved, family):
    path, *_ = saved(family)
    mixed = waves(16000, 9123, 0, 300, 24001, 16000, 401, 721)
    speech = TransformersEncoder(path, 2)
    together = speech.features(mixed)
    # The formulas of the convolutions, and of a 25 ms window every 10 ms stacked in pairs.
    if "w2v-bert" in family:
        expected = [49, 27, 1, 1, 74, 49, 1, 1]
    else:
        expected = [49, 28, 1, 1, 74, 49, 1, 2]
    assert [len(frames) for frames in together] == expected
    for wave, frames in zip(mixed, together, strict=True):
        assert np.isfinite(frames).all()
        np.testing.assert_allclose(frames, speech.features([wave])[0], atol=1e-4)


def test_batches_are_bounded_and_in_order():
    lengths = [5, 30, 7, 5, 100, 6, 5]
    seen = []

    def compute(batch):
        seen.append([len(wave) for wave in batch])
        counts = torch.tensor([len(wave) for wave in batch])
        return counts[:, None, None].expand(-1, int(counts.max()), 1), counts

    inputs = [np.zeros(length, np.float32) for length in lengths]
    found = in_batches(inputs, compute, shortest=6, mixed=True, most=24)
    assert seen == [[6, 6, 6, 6], [7], [30], [100]]
    assert [len(frames) for frames in found] == [6, 30, 7, 6, 100, 6, 6]
    assert [frames[0, 0] for frames in found] == [6, 30, 7, 6, 100, 6, 6]
    seen.clear()
    in_batches(inputs, compute, shortest=1, mixed=False, most=1000)
    assert seen == [[5, 5, 5], [6], [7], [30], [100]]
    assert in_batches([], compute, shortest=1, mixed=True, most=9) == []


def test_only_the_wanted_layers_are_loaded(saved):
    path, *_ = saved("wav2vec2-large, XLS-R")
    layers = TransformersEncoder(path, 1)._network.model.encoder.layers
    assert len(layers) == 2


def test_encoders_by_name(saved):
    path, *_ = saved("w2v-bert")
    finetuned, *_ = saved("w2v-bert CTC")
    plain = encoder(str(path), 2)
    assert plain.name == f"{path}, layer 2"
    tuned = encoder(str(path), 2, finetuned=finetuned)
    assert tuned.name == f"{path}, layer 2, fine-tuned"
    one, other = (e.features(waves(8000))[0] for e in (plain, tuned))
    assert np.abs(one - other).max() > 0.1
    for model in (path, finetuned):  # the adapter of a CTC model lies behind the layers
        assert frame_seconds(model) == tuned.frame_seconds == 0.02
    assert isinstance(encoder("mfcc", None), MfccEncoder)
    assert frame_seconds("mfcc") == 0.06
    assert encoder_name("a/b@c", None, finetuned=False) == "a/b@c, last layer"


def test_models_that_cannot_encode_are_refused(saved, tmp_path):
    path, *_ = saved("hubert-large")
    with pytest.raises(EncoderError, match="layer 4: it has 3; choose 0 to 3"):
        TransformersEncoder(path, 4)
    with pytest.raises(EncoderError, match="absent: cannot be loaded"):
        TransformersEncoder(tmp_path / "absent", 0)
    BertConfig().save_pretrained(tmp_path / "text")
    with pytest.raises(EncoderError, match="a bert is no speech encoder .* wav2vec2, wav2vec2-b"):
        TransformersEncoder(tmp_path / "text", 0)
    with pytest.raises(EncoderError, match="cannot be loaded"):
        frame_seconds(tmp_path / "absent")


def test_a_model_without_its_weights_or_rate_is_refused(saved, tmp_path):
    _, model, extractor = saved("hubert-large")
    weights = {k: v for k, v in model.state_dict().items() if "layers.1.attention" not in k}
    model.save_pretrained(tmp_path / "part", state_dict=weights)
    extractor.save_pretrained(tmp_path / "part")
    with pytest.raises(EncoderError, match="part: .*weights of HubertModel are not in it .*layers"):
        TransformersEncoder(tmp_path / "part", 2)
    model.save_pretrained(tmp_path / "rate")
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "rate")
    with pytest.raises(EncoderError, match="rate: made for 8000 Hz"):
        TransformersEncoder(tmp_path / "rate", 2)
