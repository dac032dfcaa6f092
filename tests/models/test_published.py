"""Agreement with the published code: its own numbers, and a second implementation on any shape."""

import ast

import numpy as np
import pytest
import torch
from torch.nn import functional

from voxseq.models.published import load_encoder, load_pretraining_model

#: img_size, patch_size, width, heads, layers, MLP width.
SHAPES = [
    ((8, 12, 6), (4, 3, 2), 18, 3, 2, 20),
    ((4, 4, 16), (2, 4, 8), 24, 2, 1, 12),
    ((6, 2, 4), (1, 2, 4), 12, 1, 3, 30),
]


def random_state(patch, width, layers, mlp, seed=0):
    generator = torch.Generator().manual_seed(seed)
    voxels = int(np.prod(patch))
    shapes = {
        "model.embed_tokens.weight": (4, width),
        "model.patchifier.proj.weight": (width, 1, *patch),
        "model.patchifier.proj.bias": (width,),
        "model.norm.weight": (width,),
        "model.norm.bias": (width,),
        "decoder_pred.weight": (voxels, width),
        "decoder_pred.bias": (voxels,),
    }
    for i in range(layers):
        p = f"model.layers.{i}."
        for name in "qkvo":
            shapes[f"{p}self_attn.{name}_proj.weight"] = (width, width)
        shapes[f"{p}self_attn.o_proj.bias"] = (width,)
        shapes[f"{p}mlp.linear1.weight"] = (mlp, width)
        shapes[f"{p}mlp.linear1.bias"] = (mlp,)
        shapes[f"{p}mlp.linear2.weight"] = (width, mlp)
        shapes[f"{p}mlp.linear2.bias"] = (width,)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{p}{norm}.weight"] = shapes[f"{p}{norm}.bias"] = (width,)
    return {k: torch.randn(s, generator=generator) * 0.3 for k, s in shapes.items()}


class Reference:
    """The method written down a second time: float64, one sample, loops, no shared code."""

    def __init__(self, state, img_size, patch, heads):
        self.state = {k: v.double().requires_grad_() for k, v in state.items()}
        self.img_size, self.patch, self.heads = img_size, patch, heads
        self.grid = tuple(s // p for s, p in zip(img_size, patch, strict=True))
        self.layers = len([k for k in state if k.endswith("q_proj.weight")])

    def embed(self, image, end):
        s = self.state
        kernel, bias = s["model.patchifier.proj.weight"], s["model.patchifier.proj.bias"]
        conv = functional.conv3d(image[None, None], kernel, bias, stride=self.patch)[0]
        width = conv.shape[0]
        sixth = width // 6
        tokens = [s["model.embed_tokens.weight"][1]]
        for x, y, z in np.ndindex(*self.grid):
            angles = [[i / 10_000 ** (k / sixth) for k in range(sixth)] for i in (x, y, z)]
            position = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)])
            tokens.append(conv[:, x, y, z] + torch.tensor(position))
        if end:
            tokens.append(s["model.embed_tokens.weight"][2])
        return torch.stack(tokens)

    def norm(self, x, name):
        return functional.layer_norm(
            x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-5
        )

    def attend(self, x, p, allowed):
        q, k, v = (x @ self.state[f"{p}.self_attn.{n}_proj.weight"].T for n in "qkv")
        size = x.shape[1] // self.heads
        out = []
        for h in range(self.heads):
            part = slice(h * size, (h + 1) * size)
            scores = q[:, part] @ k[:, part].T / size**0.5
            out.append(scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v[:, part])
        weight, bias = (self.state[f"{p}.self_attn.o_proj.{n}"] for n in ("weight", "bias"))
        return torch.cat(out, 1) @ weight.T + bias

    def run(self, tokens, allowed):
        hidden = []
        for i in range(self.layers):
            p = f"model.layers.{i}"
            tokens = tokens + self.attend(self.norm(tokens, f"{p}.input_layernorm"), p, allowed)
            x = self.norm(tokens, f"{p}.post_attention_layernorm")
            w = {n: self.state[f"{p}.mlp.{n}"] for n in ("linear1.weight", "linear1.bias")}
            x = functional.gelu(x @ w["linear1.weight"].T + w["linear1.bias"])
            x = x @ self.state[f"{p}.mlp.linear2.weight"].T + self.state[f"{p}.mlp.linear2.bias"]
            tokens = tokens + x
            hidden.append(tokens)
        hidden[-1] = self.norm(tokens, "model.norm")
        return hidden

    def pretrain(self, volumes, prefixes):
        errors, predictions = [], []
        for image, p in zip(volumes.double(), prefixes, strict=True):
            tokens = self.embed(image, end=True)
            n = len(tokens)
            allowed = torch.tensor([[c <= r or c <= p for c in range(n)] for r in range(n)])
            states = self.run(tokens, allowed)[-1]
            out = states @ self.state["decoder_pred.weight"].T + self.state["decoder_pred.bias"]
            predictions.append(out)
            for j, (x, y, z) in enumerate(np.ndindex(*self.grid)):
                if j >= p:
                    a, b, c = self.patch
                    box = image[x * a : x * a + a, y * b : y * b + b, z * c : z * c + c].flatten()
                    target = (box - box.mean()) / (box.var(unbiased=True) + 1e-6) ** 0.5
                    errors.append((out[j] - target) ** 2)
        return torch.cat(errors).mean(), torch.stack(predictions)


def gradient_norm(parameters):
    return float(sum(p.grad.double().square().sum() for p in parameters) ** 0.5)


def assert_agrees(actual, expected):
    actual, expected = actual.detach().double(), torch.as_tensor(expected).detach().double()
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.fixture(scope="session")
def published(golden):
    with np.load(golden / "official_ar.npz", allow_pickle=False) as file:
        values = {key: file[key] for key in file.files}
    config = ast.literal_eval(str(values["config"]))
    state = {k[6:]: torch.from_numpy(v) for k, v in values.items() if k.startswith("state/")}
    kwargs = {name: tuple(config[name]) for name in ("img_size", "patch_size")}
    return values, state, {**kwargs, "num_heads": config["num_heads"]}


@pytest.mark.parametrize("prefix", [0, 5, 31, 63])
def test_published_pretraining_numbers(published, prefix):
    values, state, kwargs = published
    model = load_pretraining_model(state, **kwargs)
    result = model(torch.from_numpy(values["input"]), prefix)
    assert float(result.loss.detach()) == pytest.approx(float(values[f"loss_{prefix}"]), rel=1e-5)
    length = result.prediction.shape[1] - 2
    positions = [0, 1, length // 2, length, length + 1]
    assert_agrees(result.prediction[:, positions], values[f"logits_{prefix}"])
    result.loss.backward()
    norm = gradient_norm(model.parameters())
    assert norm == pytest.approx(float(values[f"gradnorm_{prefix}"]), rel=1e-5)


def test_published_encoder_numbers(published):
    values, state, kwargs = published
    features, hidden = load_encoder(state, **kwargs)(torch.from_numpy(values["input"])[:, None])
    assert_agrees(features, values["encoder_features"])
    assert_agrees(hidden[2], values["encoder_hidden_mid"])
    assert len(hidden) == 4
    assert torch.equal(hidden[-1], features)


@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes_agree_with_a_second_implementation(shape):
    size, patch, width, heads, layers, mlp = shape
    state = random_state(patch, width, layers, mlp)
    kwargs = {"img_size": size, "patch_size": patch, "num_heads": heads}
    volumes = torch.rand(2, *size, generator=torch.Generator().manual_seed(1))
    length = int(np.prod([s // p for s, p in zip(size, patch, strict=True)]))
    prefix = torch.tensor([length // 3, length - 1])
    reference = Reference(state, size, patch, heads)
    loss, prediction = reference.pretrain(volumes, prefix.tolist())
    loss.backward()
    model = load_pretraining_model(state, **kwargs)
    result = model(volumes, prefix)
    result.loss.backward()
    assert_agrees(result.loss, loss)
    assert_agrees(result.prediction, prediction)
    expected = gradient_norm(reference.state.values())
    assert gradient_norm(model.parameters()) == pytest.approx(expected, rel=1e-5)
    features, hidden = load_encoder(state, **kwargs)(volumes[:, None])
    for i, image in enumerate(volumes.double()):
        tokens = reference.embed(image, end=False)
        everything = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
        outputs = reference.run(tokens, everything)
        assert_agrees(features[i], outputs[-1][1:])
        for ours, theirs in zip(hidden, outputs, strict=True):
            assert_agrees(ours[i], theirs[1:])


SIZE, PATCH, WIDTH, HEADS, LAYERS, MLP = SHAPES[0]
KWARGS = {"img_size": SIZE, "patch_size": PATCH, "num_heads": HEADS}


@pytest.fixture
def state():
    return random_state(PATCH, WIDTH, LAYERS, MLP)


LOADERS = pytest.mark.parametrize("load", [load_pretraining_model, load_encoder])


@LOADERS
def test_every_wrong_key_is_listed(state, load):
    del state["model.layers.0.self_attn.k_proj.weight"]
    del state["model.norm.bias"]
    state["model.layers.1.self_attn.q_proj.bias"] = torch.zeros(WIDTH)
    state["model.pos_embed_learn"] = torch.zeros(3, WIDTH)
    state["model.patchifier.proj.weight"] = torch.zeros(WIDTH, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="does not fit") as error:
        load(state, **KWARGS)
    text = str(error.value)
    missing = "missing keys: model.layers.0.self_attn.k_proj.weight, model.norm.bias"
    extra = "unexpected keys: model.layers.1.self_attn.q_proj.bias, model.pos_embed_learn"
    assert missing in text
    assert extra in text
    assert "misshapen keys: model.patchifier.proj.weight (18, 1, 1, 1, 1)" in text


@LOADERS
def test_each_key_counts(state, load):
    for key in state:
        if load is load_encoder and key.startswith("decoder_pred"):
            continue
        for wrong in (
            {k: v for k, v in state.items() if k != key},
            {**state, key: torch.zeros(*state[key].shape, 2)},
            {**state, key: torch.zeros(5, *state[key].shape[1:])},
        ):
            with pytest.raises(ValueError, match=key.replace(".", r"\.")):
                load(wrong, **KWARGS)


@LOADERS
def test_state_of_another_kind_is_refused(state, load):
    with pytest.raises(ValueError, match=r"missing keys.*model\.norm\.weight"):
        load({}, **KWARGS)
    with pytest.raises(ValueError, match=r"no floating-point tensors: epoch, model\.norm\.bias"):
        load({**state, "epoch": 3, "model.norm.bias": "text"}, **KWARGS)


def test_encoder_ignores_the_published_head_and_nothing_else(state):
    volume = torch.rand(1, 1, *SIZE)
    bare = {k: v for k, v in state.items() if k.startswith("model.")}
    with_head, without = load_encoder(state, **KWARGS), load_encoder(bare, **KWARGS)
    assert torch.equal(with_head(volume)[0], without(volume)[0])
    with pytest.raises(ValueError, match=r"unexpected keys: decoder_pred\.other"):
        load_encoder({**state, "decoder_pred.other": torch.zeros(1)}, **KWARGS)
    with pytest.raises(ValueError, match=r"missing keys: decoder_pred\.bias, decoder_pred\.weight"):
        load_pretraining_model(bare, **KWARGS)


@LOADERS
def test_a_whole_checkpoint_arrays_and_half_precision_are_accepted(state, load):
    load({"state_dict": state, "epoch": 3}, **KWARGS)
    load({key: value.numpy() for key, value in state.items()}, **KWARGS)
    model = load({key: value.half() for key, value in state.items()}, **KWARGS)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_weights_are_copies(state):
    model = load_pretraining_model(state, **KWARGS)
    state["decoder_pred.bias"].fill_(7.0)
    assert not (model.head.bias == 7.0).any()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_heads": 4}, "heads"),
        ({"img_size": (8, 12, 7)}, "multiple"),
        ({"img_size": (8, 12)}, "img_size"),
        ({"patch_size": 0}, "patch_size"),
        ({"patch_size": 2}, "misshapen"),
    ],
)
@LOADERS
def test_impossible_sizes_are_refused(state, load, change, named):
    with pytest.raises(ValueError, match=named):
        load(state, **{**KWARGS, **change})


def test_width_that_positions_cannot_have_is_refused():
    with pytest.raises(ValueError, match="6"):
        load_encoder(random_state((2, 2, 2), 8, 1, 8), img_size=4, patch_size=2, num_heads=2)


def test_volumes_of_another_shape_are_refused(state):
    model, encoder = load_pretraining_model(state, **KWARGS), load_encoder(state, **KWARGS)
    for wrong in (
        torch.rand(2, 1, *SIZE),
        torch.rand(2, 12, 8, 6),
        torch.rand(*SIZE),
        torch.zeros(2, *SIZE, dtype=torch.int16),
    ):
        with pytest.raises(ValueError, match="volume of shape"):
            model(wrong, 0)
    for wrong in (torch.rand(2, *SIZE), torch.rand(2, 2, *SIZE), torch.rand(2, 1, 8, 12, 12)):
        with pytest.raises(ValueError, match="volume of shape"):
            encoder(wrong)


def test_prefixes(state):
    model = load_pretraining_model(state, **KWARGS)
    volumes = torch.rand(2, *SIZE)
    one = model(volumes, 3).loss
    for same in (torch.tensor(3), torch.tensor([3, 3]), torch.tensor([3, 3], dtype=torch.int32)):
        assert torch.equal(model(volumes, same).loss, one)
    for wrong in (-1, 24, torch.tensor([0, 24]), torch.tensor([1]), torch.tensor([[0], [1]])):
        with pytest.raises(ValueError, match="prefix_length"):
            model(volumes, wrong)
    for wrong in (0.5, True, torch.tensor([0.0, 1.0])):
        with pytest.raises(ValueError, match="integer"):
            model(volumes, wrong)
