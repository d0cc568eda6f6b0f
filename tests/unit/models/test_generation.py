"""Replies to conversations: equal to ``model.generate`` when greedy, and the row's own when sampled."""

from typing import Any

import pytest
import torch

from greater_ray.models._attention import register
from greater_ray.models._generation import LEAST_REPLY, Writer, without_system
from greater_ray.models.engine import Engine
from greater_ray.types import Conversation, Message
from greater_ray.work import Generate, Unit
from tests.families import FAMILIES, tiny_model, tiny_tokenizer

# Lengths differ, so rows are padded; the longest exceeds every sliding window.
CONVERSATIONS: tuple[Conversation, ...] = (
    (Message("user", "Use proper logical reasoning. How much do 12 apples and 7 pears cost? Options: (A) 50 (B) 5"),),
    (Message("system", "Think step by step."), Message("user", "Is it valid?")),
    (Message("user", "Write the result."), Message("assistant", "It is 50."), Message("user", "Check it.")),
)
SEEDS = (11, 12, 13)


def engine(family: str, dtype: torch.dtype = torch.float64, stop: tuple[int, ...] = (), **options: Any) -> Engine:
    model, tokenizer = tiny_model(family, dtype)
    if family == "gemma2" and dtype == torch.float64:
        model.set_attn_implementation(register())
    if stop:
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, *stop]
    return Engine(model, tokenizer, **options)


def texts(engine: Engine, conversations: Any = CONVERSATIONS, seeds: Any = SEEDS, **settings: Any) -> list[str]:
    given = {"max_tokens": 16, "temperature": 0.0} | settings
    return [g.text for g in engine.run(Unit(Generate(conversations, seeds, **given)))[0]]


# -- decoding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_equals_generate(family: str) -> None:
    ours = engine(family)
    generations, usage = ours.run(Unit(Generate(CONVERSATIONS, SEEDS, 24, 0.0)))
    read = written = 0
    for conversation, generation in zip(CONVERSATIONS, generations, strict=True):
        ids = list(ours._writer.encode(conversation))
        generated = ours.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=24, do_sample=False
        )[0, len(ids) :].tolist()
        stopped = bool(set(generated) & ours.decoder.stop_tokens)
        expected = ours.tokenizer.decode(generated, skip_special_tokens=True)
        assert generation.text == expected.rstrip()
        assert (generation.truncated, generation.error) == (not stopped, None)
        read, written = read + len(ids), written + len(generated)
    assert any(g.text for g in generations)
    assert (usage.calls, usage.prefill_tokens, usage.generated_tokens) == (3, read, written)
    assert usage.tokens == read + written
    assert 0 < usage.passes <= 24


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "gpt2"])
def test_a_sampled_text_is_the_same_alone_and_in_a_batch(family: str) -> None:
    # Rows that end early leave the batch while the others go on.
    stop = tuple(range(100, 160))
    ours = engine(family, stop=stop)
    together = texts(ours, temperature=1.0)
    alone = [texts(ours, [c], [s], temperature=1.0)[0] for c, s in zip(CONVERSATIONS, SEEDS, strict=True)]
    assert together == alone
    assert texts(ours, CONVERSATIONS[::-1], SEEDS[::-1], temperature=1.0) == together[::-1]
    assert texts(engine(family, stop=stop, decode_rows=2), temperature=1.0) == together
    lengths = {
        ours.run(Unit(Generate([c], [s], 16, 1.0)))[1].generated_tokens
        for c, s in zip(CONVERSATIONS, SEEDS, strict=True)
    }
    assert len(lengths) > 1, "the case needs rows that end at different times"


def test_the_seed_and_the_temperature_decide_what_is_drawn() -> None:
    ours = engine("llama")
    row = [CONVERSATIONS[0]]
    drawn = [texts(ours, row, [seed], temperature=1.0)[0] for seed in (1, 2, 3, 1)]
    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[3]
    assert texts(ours, row, [2**40 + 1], temperature=1.0)[0] != drawn[0], "every bit of the seed counts"
    assert texts(ours, row, [1], temperature=1e-6) == texts(ours, row, [2], temperature=0.0), "cold is greedy"
    state = torch.get_rng_state()
    texts(ours, row, [1], temperature=1.0)
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    ours = engine("llama")
    row, draws = CONVERSATIONS[1], 3000
    ids = torch.tensor([ours._writer.encode(row)])
    chances = (ours.model(ids).logits[0, -1].double() / 2.0).softmax(-1)
    counts: dict[str, int] = {}
    for text in texts(ours, [row] * draws, range(draws), max_tokens=1, temperature=2.0):
        counts[text] = counts.get(text, 0) + 1
    for token in chances.topk(4).indices.tolist():
        text, chance = ours.tokenizer.decode([token]).rstrip(), float(chances[token])
        same = sum(float(chances[t]) for t in range(len(chances)) if ours.tokenizer.decode([t]).rstrip() == text)
        assert counts[text] / draws == pytest.approx(max(chance, same), abs=4 * (same / draws) ** 0.5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_out_of_memory_halves_the_batch_and_changes_no_text(temperature: float) -> None:
    ours, expected = engine("llama"), texts(engine("llama"), temperature=temperature)
    steps = 0

    def refuse(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal steps
        steps += 1
        # Not at once: something has been drawn by then.
        if kwargs["input_ids"].shape[0] > 1 and steps > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = ours.model.register_forward_pre_hook(refuse, with_kwargs=True)
    assert texts(ours, temperature=temperature) == expected
    handle.remove()


# -- conversations to ids ----------------------------------------------------------------------------------------------


def writer(family: str) -> Writer:
    return engine(family)._writer


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_one_bos_and_the_place_of_the_reply_at_the_end(family: str) -> None:
    ours = writer(family)
    bos = ours.tokenizer.bos_token_id
    for conversation in CONVERSATIONS:
        ids = ours.encode(conversation)
        if family in ("qwen2", "qwen3", "phi3"):  # no BOS, or a template and tokenizer that write none
            assert bos not in ids
        else:
            assert ids[0] == bos
            assert bos not in ids[1:]
    ending = {"llama": "assistant<|end_header_id|>\n\n", "phi3": "<|assistant|>\n", "gemma2": "<start_of_turn>model\n"}
    if family in ending:
        assert ours.tokenizer.decode(list(ids)).endswith(ending[family])


def test_a_template_that_refuses_system_turns_gets_their_text_before_the_first_question() -> None:
    text = writer("gemma2").tokenizer.decode(list(writer("gemma2").encode(CONVERSATIONS[1])))
    assert text == (
        "<bos><start_of_turn>user\nThink step by step.\n\nIs it valid?<end_of_turn>\n<start_of_turn>model\n"
    )
    assert "system" in writer("llama").tokenizer.decode(list(writer("llama").encode(CONVERSATIONS[1])))
    assert without_system((Message("system", "a"),)) == (Message("user", "a"),)
    turns = (Message("system", "a"), Message("assistant", "b"), Message("user", "c"), Message("user", "d"))
    assert without_system(turns) == (Message("assistant", "b"), Message("user", "a\n\nc"), Message("user", "d"))


def test_a_template_that_drops_system_turns_is_noticed() -> None:
    ours = writer("llama")
    ours.tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    assert ours.tokenizer.decode(list(ours.encode(CONVERSATIONS[1]))).endswith("Think step by step.\n\nIs it valid?")


def test_without_a_chat_template_roles_are_headings() -> None:
    ours = writer("gpt2")
    assert ours.tokenizer.decode(list(ours.encode(CONVERSATIONS[1]))) == (
        "<|endoftext|>System: Think step by step.\n\nUser: Is it valid?\n\nAssistant:"
    )


# -- a reply that was begun --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reply_that_was_begun_goes_on_from_there_and_comes_back_whole(family: str) -> None:
    ours = engine(family)
    before, begun = CONVERSATIONS[0], " Write the result"
    ids = ours._writer.encode((*before, Message("assistant", begun)))
    text = ours.tokenizer.decode(list(ids))
    assert text == ours.tokenizer.decode(list(ours._writer.encode(before))) + begun
    expected = ours.model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=16, do_sample=False
    )[0, len(ids) :].tolist()
    (generation,), _ = ours.run(Unit(Generate([(*before, Message("assistant", begun))], [0], 16, 0.0)))
    assert generation.text == begun + ours.tokenizer.decode(expected, skip_special_tokens=True).rstrip()


# -- rows that cannot be continued -------------------------------------------------------------------------------------


def test_a_row_that_does_not_fit_the_window_says_so_and_the_others_go_on() -> None:
    ours = engine("llama")
    fits = len(ours._writer.encode(CONVERSATIONS[0])) + 16
    ours.model.config.max_position_embeddings = fits
    expected = texts(engine("llama"))
    long = (Message("user", CONVERSATIONS[0][0].content + " True"),)
    generations, usage = ours.run(Unit(Generate([CONVERSATIONS[0], long, CONVERSATIONS[1]], SEEDS, 16, 0.0)))
    assert [g.text for g in generations] == [expected[0], "", expected[1]]
    assert [g.error is None for g in generations] == [True, False, True]
    assert generations[1].error == (
        f"{fits - 15} tokens of conversation and 16 of reply do not fit the model's context window of {fits}."
    )
    assert usage.calls == 3
    assert ours.run(Unit(Generate([long], [1], 16, 0.0)))[1].generated_tokens == 0, "nothing but refused rows"


def test_a_long_conversation_leaves_its_reply_less_and_the_other_replies_as_they_are() -> None:
    short, long = CONVERSATIONS[0], (Message("user", CONVERSATIONS[0][0].content + " True" * 30),)
    whole, plain = engine("llama"), engine("llama")
    limit = LEAST_REPLY + 20
    whole.model.config.max_position_embeddings = len(whole._writer.encode(long)) + LEAST_REPLY + 5
    (first, second), usage = whole.run(Unit(Generate([short, long], SEEDS[:2], limit, 5.0)))
    (expected,), _ = plain.run(Unit(Generate([short], SEEDS[:1], limit, 5.0)))
    (alone,), _ = plain.run(Unit(Generate([long], SEEDS[1:2], LEAST_REPLY + 5, 5.0)))
    assert (first, second) == (expected, alone)
    assert usage.calls == 2
    whole.model.config.max_position_embeddings -= 6
    (error,), _ = whole.run(Unit(Generate([long], [1], limit, 0.0)))
    assert error.error is not None


def test_markup_of_the_model_inside_a_turn_is_refused() -> None:
    (generation,), _ = engine("llama").run(Unit(Generate([(Message("user", "a<|eot_id|>b"),)], [0], 4, 0.0)))
    assert generation.error == "the conversation contains '<|eot_id|>', which is markup of this model."


def test_a_template_that_refuses_the_turns_gives_an_error() -> None:
    ours = engine("llama")
    ours.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    (generation,), _ = ours.run(Unit(Generate([CONVERSATIONS[2]], [0], 4, 0.0)))
    assert generation.error == "the model's chat template refuses this conversation: roles must alternate."


def test_what_is_written_holds_no_markup() -> None:
    ours = engine("llama")
    special = set(tiny_tokenizer("llama").all_special_tokens)
    drawn = texts(ours, [CONVERSATIONS[1]] * 40, range(40), temperature=3.0)
    assert not any(token in text for token in special for text in drawn)
