"""The tiny models that other tests stand on must be real, reproducible and not degenerate."""

import pytest
import torch

from tests.families import FAMILIES, SLIDING_WINDOW, tiny_model

TEXT = "Use proper logical reasoning and think step by step. It costs 1937 dollars. (A) True"


@pytest.mark.parametrize("family", FAMILIES)
def test_family_builds_and_varies(family):
    model, tokenizer = tiny_model(family)
    ids = tokenizer(TEXT).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXT
    assert len(ids) > SLIDING_WINDOW
    logits = model(torch.tensor([ids])).logits
    assert logits.shape == (1, len(ids), len(tokenizer))
    assert torch.isfinite(logits).all()
    assert len(set(logits.argmax(-1)[0].tolist())) > len(ids) // 4, "the model repeats itself"
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_the_same_in_every_precision(family):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    single, tokenizer = tiny_model(family)
    double, _ = tiny_model(family, torch.float64)
    assert torch.equal(before, torch.get_rng_state()), "building a model must not move the global generator"
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    torch.testing.assert_close(single(ids).logits.double(), double(ids).logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3"])
def test_sliding_windows_are_on(family):
    model, tokenizer = tiny_model(family, torch.float64)
    wide, _ = tiny_model(family, torch.float64)
    for module in wide.modules():
        if getattr(module, "sliding_window", None) is not None:
            module.sliding_window = 2048
    wide.config.sliding_window = 2048
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    assert not torch.allclose(model(ids).logits[:, -1], wide(ids).logits[:, -1], atol=1e-6)


def test_gemma2_soft_caps_attention_and_logits():
    model, tokenizer = tiny_model("gemma2", torch.float64)
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    capped = model(ids).logits
    assert capped.abs().max() < model.config.final_logit_softcapping
    for module in model.modules():
        if getattr(module, "attn_logit_softcapping", None) is not None:
            module.attn_logit_softcapping = None
    assert not torch.allclose(capped, model(ids).logits, atol=1e-6)


def test_digits_stay_single():
    _, tokenizer = tiny_model("llama")
    assert [tokenizer.decode(i) for i in tokenizer("937", add_special_tokens=False).input_ids] == ["9", "3", "7"]


@pytest.mark.parametrize("family", [name for name in FAMILIES if not name.startswith("gpt")])
def test_chat_templates_render(family):
    _, tokenizer = tiny_model(family)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert "Hi" in text


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_base_models_have_no_chat_template(family):
    assert tiny_model(family)[1].chat_template is None
