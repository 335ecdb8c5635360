"""Answers by language models: a real tiny one in this process, and a toy server that fails as real ones."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterable
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.endpoint import DROP
from toys.endpoint import Said
from toys.endpoint import ToyEndpoint
from toys.examples import MANY
from toys.processes import start_python
from toys.samples import XTTS
from toys.tokenizer import toy_tokenizer

from speechrows.cli import main
from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.generate.asking import REFUSED
from speechrows.generate.asking import TIMES_AGAIN
from speechrows.generate.asking import Prompt
from speechrows.generate.asking import Reply
from speechrows.generate.asking import Sampling
from speechrows.generate.asking import judge
from speechrows.generate.asking import judge_description
from speechrows.generate.asking import prompt_of
from speechrows.generate.asking import without_thoughts
from speechrows.generate.clip import InputClip
from speechrows.generate.endpoint import Endpoint
from speechrows.generate.local_model import LocalModel
from speechrows.generate.local_model import render
from speechrows.generate.sift import SiftReport
from speechrows.generate.sift import make
from speechrows.generate.sift import recipe_of
from speechrows.generate.writer import SidecarWriter
from speechrows.types import Traits

SAMPLING = Sampling(temperature=0.8, top_p=0.92, max_new_tokens=24, seed=None)
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=24, seed=0)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def clips(texts: Iterable[str]) -> list[InputClip]:
    return [InputClip(clip_id=f"c/{i}", text=text) for i, text in enumerate(texts)]


def rows(folder: Path) -> list[dict[str, Any]]:
    # Opened once a file, as a run may put another in its place meanwhile.
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()
    ]


def sift(
    folder: Path, server: ToyEndpoint, texts: Iterable[str], mode: str = "sift_s", **options: Any
) -> SiftReport:
    model = Endpoint(server.url, "toy", SAMPLING, first_pause_s=0.0001, **options)
    with SidecarWriter.open(folder, recipe_of(mode, "toy", SAMPLING)) as writer:
        return make(clips(texts), writer, mode, model)


def echo(user: str, _: int) -> Said:
    return Said(f"You say {user}")


# --- what is asked, what is kept ------------------------------------------------------------


def test_the_three_prompts_are_the_founding_ones_to_the_letter() -> None:
    lost = InputClip(clip_id="a", text="I lost my keys again.", traits=Traits(gender="male", emotion="sad"))
    assert prompt_of("sift_s", lost) == Prompt(
        system="You are the user's friend. Respond warmly and briefly to what they tell you.",
        user="I lost my keys again.",
    )
    assert prompt_of("sift_ssp", lost) == Prompt(
        system="You can hear audio. Respond empathetically to what the person says, being aware of their "
        "tone and emotion. Don't describe the audio - just respond to it naturally.",
        user="<audio><meta>gender: male, emotion: sad</meta><text>i lost my keys again.</text></audio>",
    )
    alone = InputClip(
        clip_id="b", text="leave me alone", traits=Traits(age="young adult", gender="male", emotion="angry")
    )
    assert prompt_of("sit_ssp", alone) == Prompt(
        system='Describe audio in one sentence starting with "Sounds like". Include emotion, gender, what '
        "they said (quoted), and voice quality. Example: \"Sounds like an angry man saying 'leave me alone' "
        'in a harsh voice."',
        user="<audio><meta>age: young adult, gender: male, emotion: angry</meta><text>leave me alone</text>"
        "</audio>",
    )


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        ("Hello.", "Hello."),
        ("<think>\nThe user greets.\n</think>\n\nHello.", "Hello."),
        ("The user greets.\n</think>\nHello.", "Hello."),  # the template opened it
        ("Hello.<think>Was that right?</think> You!<think>Yes", "Hello. You!"),
        ("<think>The user greets, so I", ""),
        ("<think></think>", ""),
        (" \n ", ""),
        ("one \ud800 two", "one  two"),
    ],
)
def test_thoughts_are_no_part_of_an_answer(reply: str, kept: str) -> None:
    assert without_thoughts(reply) == kept
    assert judge(Reply(text=reply, is_cut=True, num_tokens=1)).text == (kept or None)


@MANY
@given(st.lists(st.sampled_from(["<think>", "</think>", "Hello", " ", "\n", "<thi", "nk>"])).map("".join))
def test_no_thought_is_left_whatever_the_nesting(reply: str) -> None:
    kept = without_thoughts(reply)
    assert kept == kept.strip()
    assert "<think>" not in kept


def test_a_description_that_does_not_begin_as_asked_is_none() -> None:
    assert judge_description(Reply(text="Sounds like a man.", is_cut=False, num_tokens=1)).text is not None
    assert judge_description(Reply(text="It sounds like a man.", is_cut=False, num_tokens=1)).text is None
    assert judge_description(Reply(text="", is_cut=False, num_tokens=1)).reason == "the answer was empty"


# --- an endpoint ----------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_clips_however_long_each_takes(tmp_path: Path) -> None:
    def slow(user: str, _: int) -> Said:
        time.sleep(random.Random(user).random() * 0.02)
        return Said(f"You say {user}")

    texts = [f"text {i}" for i in range(120)]
    with ToyEndpoint(slow) as server:
        report = sift(tmp_path, server, texts, concurrency=8)
        assert 2 <= server.most_at_once <= 8
    assert [(row["clip_id"], row["answer"]) for row in rows(tmp_path)] == [
        (f"c/{i}", f"You say {text}") for i, text in enumerate(texts)
    ]
    assert (report.num_made, report.num_asked, report.num_tokens) == (120, 120, 840)
    assert all(
        body["messages"][0]["content"].startswith("You are the user's friend") for body in server.requests
    )
    sent = server.requests[0]
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0.8, 0.92, 24)
    assert sent["model"] == "toy"


def test_an_endpoint_that_fails_now_and_then_costs_no_answer(tmp_path: Path) -> None:
    def flaky(user: str, times: int) -> Said:
        broken = Said("x")
        broken.body = b'{"choices": [{"mess'
        hollow = Said("x")
        hollow.body = {"choices": []}
        faults = [Said(status=429), Said(status=500), Said(status=DROP), Said(status=503), broken, hollow]
        fault = faults[int(user.split()[1]) % 7 :][:1]
        return fault[0] if fault and times < 2 else Said(f"You say {user}")

    with ToyEndpoint(flaky) as server:
        report = sift(tmp_path, server, [f"text {i}" for i in range(35)], concurrency=4)
    assert [row["answer"] for row in rows(tmp_path)] == [f"You say text {i}" for i in range(35)]
    assert report.faults.total() == 0
    assert len(server.requests) == 35 + 30 * 2


@pytest.mark.parametrize("as_date", [False, True])
def test_nobody_asks_while_the_endpoint_wants_a_pause(tmp_path: Path, as_date: bool) -> None:
    def busy(user: str, times: int) -> Said:
        if user == "text 0" and times == 0:
            header = formatdate(time.time() + 2, usegmt=True) if as_date else "0.6"
            return Said(status=429, retry_after=header)
        return Said("yes")

    with ToyEndpoint(busy) as server:
        sift(tmp_path, server, [f"text {i}" for i in range(30)], concurrency=1)
        pauses = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert max(pauses) >= 0.55
    assert sum(pauses) - max(pauses) < 0.55


def test_requests_keep_to_the_rate_that_was_asked_for(tmp_path: Path) -> None:
    with ToyEndpoint(echo) as server:
        sift(tmp_path, server, [f"text {i}" for i in range(21)], concurrency=8, requests_per_second=50)
        assert server.times[-1] - server.times[0] >= 0.38
        assert sorted(server.asked.values()) == [1] * 21


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_call_that_is_wrong_stops_and_says_what_the_endpoint_said(tmp_path: Path, status: int) -> None:
    with ToyEndpoint(lambda *_: Said("no such model: toy", status=status)) as server:
        with pytest.raises(UsageError, match=rf"{status}: .*no such model: toy.*--model"):
            sift(tmp_path, server, [f"text {i}" for i in range(50)], concurrency=2)
        assert len(server.requests) < 20
    assert rows(tmp_path) == []


def test_a_prompt_that_the_endpoint_refuses_costs_its_own_clip_alone(tmp_path: Path) -> None:
    def short(user: str, _: int) -> Said:
        return Said("too long", status=400) if len(user) > 50 else Said("yes")

    with ToyEndpoint(short) as server:
        report = sift(tmp_path, server, ["a", "b", "c" * 60, "d"], concurrency=1)
    assert [(row["answer"], row["reason"]) for row in rows(tmp_path)] == [
        ("yes", None),
        ("yes", None),
        (None, REFUSED),
        ("yes", None),
    ]
    assert report.faults == {REFUSED: 1}


def test_an_endpoint_that_knows_no_template_settings_is_asked_without(tmp_path: Path) -> None:
    with ToyEndpoint(echo) as server:

        def strict(user: str, _: int) -> Said:
            unknown = "chat_template_kwargs" in server.requests[-1]
            return Said("unexpected field", status=422) if unknown else Said("yes")

        server.answer = strict
        report = sift(tmp_path, server, [f"text {i}" for i in range(9)], concurrency=1)
    assert (report.num_made, len(server.requests)) == (9, 10)
    with ToyEndpoint(echo) as server:
        sift(tmp_path / "other", server, ["a"])
    assert server.requests[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_an_endpoint_that_never_answers_stops_the_run_and_keeps_what_was_given(tmp_path: Path) -> None:
    def dying(user: str, _: int) -> Said:
        return Said("yes") if user in ("text 0", "text 1") else Said("out of memory", status=500)

    with ToyEndpoint(dying) as server, pytest.raises(StoreError, match=r"did not answer.*500.*out of memory"):
        sift(tmp_path, server, [f"text {i}" for i in range(20)], concurrency=1)
    assert [row["answer"] for row in rows(tmp_path)] == ["yes", "yes"]


def test_the_hubs_token_is_never_sent_to_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MY_KEY", "sk-mine")
    with ToyEndpoint(echo) as server:
        sift(tmp_path / "1", server, ["a"])
        sift(tmp_path / "2", server, ["a"], api_key_env="MY_KEY")
        assert server.keys == ["Bearer none", "Bearer sk-mine"]


def test_answers_that_are_cut_are_marked_and_thoughts_alone_are_asked_for_again(tmp_path: Path) -> None:
    def answer(user: str, times: int) -> Said:
        return {
            "cut": Said("It went on and", ended=False),
            "thinks": Said("<think>Well…</think>Hello!"),
            "thinks too long": Said("<think>Well, the user", ended=False),
            "hesitates": Said("" if times < 2 else "Hello!"),
            "null": Said(None if times < 1 else "Hello!"),
        }[user]

    with ToyEndpoint(answer) as server:
        report = sift(tmp_path, server, ["cut", "thinks", "thinks too long", "hesitates", "null"])
    assert [(row["answer"], row["is_cut"], row["reason"]) for row in rows(tmp_path)] == [
        ("It went on and", True, None),
        ("Hello!", False, None),
        (None, False, "the answer was empty"),
        ("Hello!", False, None),
        ("Hello!", False, None),
    ]
    assert server.asked == {
        "cut": 1,
        "thinks": 1,
        "thinks too long": 1 + TIMES_AGAIN,
        "hesitates": 3,
        "null": 2,
    }
    assert (report.num_made, report.num_cut, report.faults) == (4, 1, {"the answer was empty": 1})


def test_descriptions_begin_as_asked_or_are_asked_for_again_then_skipped_with_a_reason(
    tmp_path: Path,
) -> None:
    def answer(user: str, times: int) -> Said:
        if "stubborn" in user:
            return Said("The speaker is a man.")
        return Said("Sounds like a man." if times == 2 else "A man.")

    with ToyEndpoint(answer) as server:
        sift(tmp_path, server, ["stubborn", "slow"], "sit_ssp")
        assert sorted(server.asked.values()) == [3, 1 + TIMES_AGAIN]
    assert [(row["answer"], row["reason"]) for row in rows(tmp_path)] == [
        (None, 'the answer did not begin with "Sounds like"'),
        ("Sounds like a man.", None),
    ]


def test_a_prompt_is_asked_once_in_a_run_and_in_later_ones(tmp_path: Path) -> None:
    texts = ["yes", "no", "yes", "yes", "no", "", "  "] * 30
    with ToyEndpoint(lambda user, times: Said(f"{user} {times}"), pause_s=0.02) as server:
        report = sift(tmp_path, server, texts[:100])
        assert server.asked == {"yes": 1, "no": 1}
        assert (report.num_made, report.num_shared) == (72, 70)
        report = sift(tmp_path, server, [*texts, "new"])
        assert server.asked == {"yes": 1, "no": 1, "new": 1}, "what an earlier run wrote is looked up first"
        assert report.num_earlier == 100
    answers = {row["clip_id"]: (row["answer"], row["reason"]) for row in rows(tmp_path)}
    wanted = {"yes": ("yes 0", None), "no": ("no 0", None)}
    empty = (None, "the clip has no text")
    assert answers == {f"c/{i}": wanted.get(text, empty) for i, text in enumerate(texts)} | {
        f"c/{len(texts)}": ("new 0", None)
    }


def test_clips_that_wait_for_one_answer_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechrows.generate.sift._MAX_PENDING", 10)
    with ToyEndpoint(echo, pause_s=0.01) as server:
        report = sift(tmp_path, server, ["yes"] * 1000 + ["no"])
    assert (report.num_made, report.num_asked) == (1001, 2)


def test_the_model_is_kept_busy(tmp_path: Path) -> None:
    with ToyEndpoint(echo, pause_s=0.02) as server:
        report = sift(tmp_path / "1", server, [f"text {i}" for i in range(200)], concurrency=4)
    assert report.waiting_share < 0.05
    assert "the model waited" in str(report)

    def lazy() -> Iterator[InputClip]:
        for clip in clips(f"text {i}" for i in range(10)):
            time.sleep(0.05)
            yield clip

    with (
        ToyEndpoint(echo) as server,
        SidecarWriter.open(tmp_path / "2", recipe_of("sift_s", "toy", SAMPLING)) as writer,
    ):
        report = make(lazy(), writer, "sift_s", Endpoint(server.url, "toy", SAMPLING, concurrency=4))
    assert report.waiting_share > 0.8, "a slow source is seen"


# --- the command ----------------------------------------------------------------------------


def command(server: ToyEndpoint, out: Path, *more: str) -> list[str]:
    source = ["--source", "deepdialogue_ttt", "--data-dir", str(XTTS), "--out", str(out)]
    return ["generate", "sift", "--mode", "sift_s", "--endpoint", server.url, *source, *more]


def test_the_command_answers_every_clip_and_tells_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ToyEndpoint(echo) as server:
        assert main(command(server, tmp_path / "a")) == 0
        output = capsys.readouterr()
        assert "17 answers" in output.out
        assert output.err == "", "no progress bar where nobody looks"
        assert main(command(server, tmp_path / "a", "--temperature", "0.1")) == 2
        assert "made with temperature 0.8, not 0.1" in capsys.readouterr().err
        assert main(command(server, tmp_path / "a", "--concurrency", "0")) == 2
        assert main(command(server, tmp_path / "a", "--split", "test")) == 2
        assert "found no clip of split test" in capsys.readouterr().err
    answers = rows(tmp_path / "a")
    assert answers[0]["clip_id"] == "deepdialogue-xtts/dialogues_llama3-8B_cohere7B/health_2_4/0"
    assert answers[0]["answer"] == "You say I have not slept well for a week."


def test_a_run_that_is_killed_goes_on_and_asks_nothing_twice_that_was_kept(tmp_path: Path) -> None:
    code = "import sys; from speechrows.generate import writer; writer.SECONDS = 0.0; "
    code += "from speechrows.cli import main; sys.exit(main(sys.argv[1:]))"
    with ToyEndpoint(echo, pause_s=0.3) as server:
        arguments = command(server, tmp_path / "torn", "--concurrency", "1")
        run = start_python(code, *arguments)
        deadline = time.monotonic() + 120
        while len(rows(tmp_path / "torn")) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        run.kill()
        assert run.wait() == -signal.SIGKILL
        kept = [row["answer"].removeprefix("You say ") for row in rows(tmp_path / "torn")]
        assert 3 <= len(kept) < 17
        server.pause_s = 0.0
        assert main(arguments) == 0
        assert all(server.asked[text] == 1 for text in kept)
        assert sum(server.asked.values()) <= 17 + 2, "one was on its way to the model, one to the disk"
        assert main(command(server, tmp_path / "whole")) == 0
    torn, whole = ((tmp_path / name / "part-00000.parquet").read_bytes() for name in ("torn", "whole"))
    assert torn == whole


# --- a model in this process ----------------------------------------------------------------

TAUGHT = {
    "hi": "Sounds like hello.",
    "i got the job!": "Sounds like great news!",
    "what a long and weary day it was, and no end of it": "Sounds like bed.",
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 50 000 parameters that learnt three answers by heart."""
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig  # noqa: PLC0415
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    tokenizer = toy_tokenizer("bpe", CHATML)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model only waits for more
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=48, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    prompts = [render(tokenizer, Prompt(system="Be kind.", user=user)) for user in TAUGHT]
    asked = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    ends = [tokenizer(f"{text}<|im_end|>", add_special_tokens=False)["input_ids"] for text in TAUGHT.values()]
    length = max(len(a) + len(b) for a, b in zip(asked, ends, strict=True))
    ids = torch.tensor([a + b + [0] * (length - len(a) - len(b)) for a, b in zip(asked, ends, strict=True)])
    labels = torch.tensor(
        [[-100] * len(a) + b + [-100] * (length - len(a) - len(b)) for a, b in zip(asked, ends, strict=True)]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(300):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 5e-3:
            break
    folder = tmp_path_factory.mktemp("taught")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def kind(texts: Iterable[str]) -> list[Prompt | None]:
    return [Prompt(system="Be kind.", user=text) for text in texts]


def test_a_batch_answers_as_each_prompt_alone_would(taught: Path) -> None:
    model = LocalModel(str(taught), GREEDY, device="cpu", batch_size=5)
    texts = [*TAUGHT, *reversed(TAUGHT)]
    answers = list(model.answers(kind(texts), judge))
    assert [answer.text for answer in answers] == [TAUGHT[text] for text in texts]
    assert not any(answer.is_cut for answer in answers)
    assert (model.num_asked, model.num_tokens > 30, model.busy_s > 0) == (6, True, True)


def test_an_answer_whose_end_never_came_is_cut(taught: Path) -> None:
    short = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=8, seed=0)
    model = LocalModel(str(taught), short, device="cpu", batch_size=3)
    answers = list(model.answers(kind(TAUGHT), judge))
    assert all(answer.is_cut for answer in answers)
    assert all(
        TAUGHT[text].startswith(answer.text or "?") for text, answer in zip(TAUGHT, answers, strict=True)
    )


def test_a_window_is_answered_before_the_next_is_read(taught: Path) -> None:
    model = LocalModel(str(taught), GREEDY, device="cpu", batch_size=1)
    read: list[str] = []

    def asked() -> Iterator[Prompt | None]:
        for i in range(20):
            read.append("hi")
            yield Prompt(system="Be kind.", user="hi")
            if i == 2:
                yield None

    answers = model.answers(asked(), judge)
    next(answers)
    assert len(read) == 3, "None says: answer what you hold"
    assert len(list(answers)) == 19


def test_what_a_model_here_will_not_say_is_asked_again_then_given_up(taught: Path, tmp_path: Path) -> None:
    sampling = Sampling(temperature=1.5, top_p=1.0, max_new_tokens=4, seed=3)
    model = LocalModel(str(taught), sampling, device="cpu", batch_size=4)
    with SidecarWriter.open(tmp_path, recipe_of("sit_ssp", str(taught), sampling)) as writer:
        report = make(clips(["one", "two"]), writer, "sit_ssp", model)
    assert model.num_asked == 2 * (1 + TIMES_AGAIN)
    assert report.faults == {'the answer did not begin with "Sounds like"': 2}
    assert 0 <= report.waiting_share < 1


def test_the_same_seed_gives_the_same_answers_in_this_process(taught: Path) -> None:
    def answers(seed: int) -> list[str | None]:
        sampling = Sampling(temperature=1.5, top_p=0.99, max_new_tokens=12, seed=seed)
        model = LocalModel(str(taught), sampling, device="cpu", batch_size=2)
        return [answer.text for answer in model.answers(kind(["hi", "you", "there"]), judge)]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_templates_and_base_models_are_asked_in_their_own_form() -> None:
    prompt = Prompt(system="Be kind.", user="i got the job!")
    assert render(toy_tokenizer("bpe"), prompt) == "<s>System: Be kind.\nUser: i got the job!\nAssistant:"
    assert render(toy_tokenizer("bpe", CHATML), prompt) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\ni got the job!<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    no_system = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m.content }}]{% endfor %}"
    )
    assert render(toy_tokenizer("bpe", no_system), prompt) == "[Be kind.\n\ni got the job!]"
    thinks = "{{ messages[1].content }}{% if enable_thinking is false %}<think></think>{% endif %}"
    assert render(toy_tokenizer("bpe", thinks), prompt) == "i got the job!<think></think>"


def test_a_model_without_a_template_stops_where_the_user_would_speak(taught: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415

    model = LocalModel(str(taught), GREEDY, device="cpu")
    model._tokenizer = AutoTokenizer.from_pretrained(taught)
    model._tokenizer.chat_template = None
    for more in ("\nUser: and then", "\nAssistant: Really."):
        row = model._tokenizer(f"Good for you.{more}", add_special_tokens=False)["input_ids"]
        reply = model._read(row)
        assert (reply.text, reply.is_cut) == ("Good for you.", False)
    assert len(list(model.answers(kind(["hi"]), judge))) == 1  # with stop strings, through generate


def test_a_model_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--model .*nothing: no such folder; expected a folder"):
        LocalModel(str(tmp_path / "nothing"), GREEDY, device="cpu")


def test_the_command_runs_a_model_here(taught: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "answers")
    source = ["--source", "deepdialogue_ttt", "--data-dir", str(XTTS), "--out", out, "--model", str(taught)]
    more = ["--max-new-tokens", "6", "--device", "cpu"]
    assert main(["generate", "sift", "--mode", "sift_ssp", *source, *more]) == 0
    assert len(rows(tmp_path / "answers")) == 17


# --- for real, where asked for --------------------------------------------------------------

REAL = os.environ.get("SPEECHROWS_REAL_MODELS")  # a comma-separated list of: serve, or a .gguf's path


@pytest.mark.skipif("serve" not in (REAL or "").split(","), reason="SPEECHROWS_REAL_MODELS has no `serve`")
def test_transformers_serve_answers(taught: Path, tmp_path: Path) -> None:
    import socket  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = os.environ.get("SPEECHROWS_TRANSFORMERS", "transformers")
    log = (tmp_path / "log").open("w")
    serve = subprocess.Popen(
        [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and serve.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            except OSError:
                time.sleep(0.5)
        url = f"http://127.0.0.1:{port}/v1"
        model = Endpoint(url, str(taught), GREEDY, concurrency=2)
        answers = list(model.answers(kind(TAUGHT), judge))
        assert [answer.text for answer in answers] == list(TAUGHT.values())
        out = ["--out", str(tmp_path / "answers"), "--model", str(taught), "--max-new-tokens", "12"]
        source = ["--source", "deepdialogue_ttt", "--data-dir", str(XTTS), "--endpoint", url]
        assert main(["generate", "sift", "--mode", "sift_s", *source, *out, "--concurrency", "2"]) == 0
        assert len(rows(tmp_path / "answers")) == 17
    finally:
        serve.terminate()
        serve.wait(30)
        log.close()


GGUF = next((path for path in (REAL or "").split(",") if path.endswith(".gguf")), "")


@pytest.mark.skipif(not GGUF, reason="SPEECHROWS_REAL_MODELS has no path of a .gguf")
def test_a_real_small_model_answers(tmp_path: Path) -> None:
    sampling = Sampling(temperature=0.8, top_p=0.92, max_new_tokens=32, seed=0)
    model = LocalModel(GGUF, sampling, device="cpu", batch_size=3)
    with SidecarWriter.open(tmp_path, recipe_of("sift_s", GGUF, sampling)) as writer:
        report = make(clips(["i got the job!", "i lost my keys again.", "hello"]), writer, "sift_s", model)
    assert report.num_made == 3, rows(tmp_path)
