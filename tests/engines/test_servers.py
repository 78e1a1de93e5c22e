"""What can be wrong with a server: each fault has one message that says what to do next."""

import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_vllm import DropError, FakeVllm, RefusalError
from transformers import AutoModelForCausalLM

from warmup_distill.cluster.places import Here
from warmup_distill.engines import probing, wire
from warmup_distill.engines.choosing import Chosen, Pair, choose, require_engine
from warmup_distill.engines.progress import Progress
from warmup_distill.engines.vllm import VllmEngine
from warmup_distill.errors import NumbersError, RunError
from warmup_distill.models.holding import Held
from warmup_distill.models.loading import BUNDLED
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.engine import EngineSection
from warmup_distill.stages.rollouts import RollOut
from warmup_distill.stages.session import Session

KEY = "sk-CANARYcanaryCANARY"
PROMPT = [5, 6, 7, 8]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAUSES", (0.0, 0.0))


@pytest.fixture(scope="module")
def models() -> list[Any]:
    return [AutoModelForCausalLM.from_pretrained(BUNDLED / one) for one in ("student", "teacher")]


@pytest.fixture
def fakes(models: list[Any]) -> dict[str, FakeVllm]:
    student, teacher = (FakeVllm(model) for model in models)
    return {"student": student, "teacher": teacher}


@pytest.fixture
def urls(fakes: dict[str, FakeVllm]) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        yield {role: stack.enter_context(fake.listening()) for role, fake in fakes.items()}


def recipe(urls: dict[str, str], **engine: Any) -> Recipe:
    values = {
        "teacher": "bundled:teacher", "student": "bundled:student",
        "prompts": {"dataset": "bundled:problems", "limit": 3},
        "rollouts": {"num_samples": 2, "max_new_tokens": 16,
                     "engine": {"name": "vllm", "timeout": 20.0} | urls | engine},
    }  # fmt: skip
    return Recipe.model_validate(values)


def chosen(urls: dict[str, str], **engine: Any) -> Chosen:
    """What a run does before its first part."""
    whole = recipe(urls, **engine)
    session = Session(Path("nowhere"), whole)
    pair = Pair(
        student=session.ref(whole.student),
        teacher=session.teacher_ref,
        vocabulary=session.vocabulary,
        batch_tokens=1024,
    )
    with Progress("", 0) as progress:
        return choose(whole.rollouts, pair, [PROMPT], Here(), 1, progress)


def test_two_good_servers_are_named_and_compared_with_the_models_here(
    urls: dict[str, str],
) -> None:
    source, facts = chosen(urls)
    assert isinstance(source.engine(Held(), lambda tokens: None), VllmEngine)
    for role in ("student", "teacher"):
        found = facts[role]
        assert (found["model"], found["vllm"]) == ("served", "0.0-fake")
        assert (found["tokens"], found["compared_with"]) == (16, "float32")
        assert 0 <= found["mean_difference"] <= found["largest_difference"] < 1e-4


def test_the_task_can_be_sent_to_another_process_without_the_key(
    urls: dict[str, str], fakes: dict[str, FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    fakes["student"].key = fakes["teacher"].key = KEY
    source, facts = chosen(urls, api_key_env="A_KEY")
    whole = recipe(urls, api_key_env="A_KEY")
    sent = pickle.dumps(RollOut(source=source, settings=whole.rollouts, seed=0))
    assert pickle.loads(sent).source == source
    assert KEY.encode() not in sent and KEY not in str(facts) + whole.model_dump_json()


def other_weights(fakes: dict[str, FakeVllm]) -> None:
    fakes["teacher"].model = fakes["student"].model


def smaller(fakes: dict[str, FakeVllm]) -> None:
    model = AutoModelForCausalLM.from_pretrained(BUNDLED / "teacher")
    model.resize_token_embeddings(model.config.vocab_size - 8)
    fakes["teacher"].model = model


def larger(fakes: dict[str, FakeVllm]) -> None:
    model = AutoModelForCausalLM.from_pretrained(BUNDLED / "teacher")
    model.resize_token_embeddings(model.config.vocab_size + 8, mean_resizing=False)
    fakes["teacher"].model = model


def fail(role: str, error: Exception) -> Any:
    """Every completion fails in this way."""

    def change(fakes: dict[str, FakeVllm]) -> None:
        def raise_it(body: dict[str, Any]) -> None:
            raise error

        fakes[role].before = raise_it

    return change


def set_on(role: str, **values: Any) -> Any:
    def change(fakes: dict[str, FakeVllm]) -> None:
        for name, value in values.items():
            setattr(fakes[role], name, value)

    return change


FAULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "it wants a key": (
        set_on("student", key=KEY), {}, r"student's server .* turns us away \(401\): .*api_key_env",
    ),
    "it takes another key": (
        set_on("teacher", key="another"), {"api_key_env": "A_KEY"},
        r"teacher's server .* \(401\): the key in A_KEY is not one",
    ),
    "no key in the environment": (
        set_on("student"), {"api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY, which holds no key here",
    ),
    "nothing listens": (
        set_on("student"), {"student": "http://127.0.0.1:9"},
        "failed 3 times to answer /v1/models: nothing listens there.*Start it .`vllm serve "
        ".*bundled/student --dtype float32 .*same command goes on",
    ),
    "no server of this kind": (
        set_on("student"), {"student": "{student}/elsewhere"}, "knows no /v1/models .404",
    ),
    "a name that it does not serve": (
        set_on("student"), {"student_model": "other"},
        "serves served, and not other.*student_model",
    ),
    "several models, none of them meant": (
        set_on("teacher", models=[{"id": "a"}, {"id": "b"}]), {},
        "serves a, b, and not .*bundled/teacher.*teacher_model",
    ),
    "a context that is too short": (
        set_on("teacher", context=20), {}, "reads 20 tokens, but .* up to 20.*--max-model-len 21",
    ),
    "a head with fewer rows": (smaller, {}, "refuses.*400.*out of vocabulary.*another model"),
    "a head with more rows": (larger, {}, "knows a token .* it holds another model"),
    "another model of the same tokens": (
        other_weights, {}, "teacher's server .* does not give the log-probabilities of "
        "bundled:teacher in float32 here.*differ by .* nats on average.*tolerance is 0.5",
    ),
    "processed log-probabilities": (
        set_on("student", processed=True), {}, "other log-probabilities than when it scores them.*"
        "--logprobs-mode raw_logprobs",
    ),
    "it ignores bans": (
        set_on("student", honours_bias=False), {}, "in spite of a bias of -100",
    ),
    "it dies of the first request": (
        fail("student", DropError()), {},
        "failed 3 times to answer /v1/completions: the connection was lost.*It did answer "
        "/v1/models.*its engine died of the first request.*engine: transformers",
    ),
    "its engine is dead": (
        fail("teacher", RefusalError(500, "EngineCore encountered an issue")), {},
        "it answers 500: EngineCore encountered an issue.*its engine died of the first request",
    ),
    "it does not take the request": (
        fail("teacher", RefusalError(400, "logprobs are not enabled")), {},
        "refuses a request to /v1/completions .400.: logprobs are not enabled",
    ),
    "it repeats the key": (
        fail("teacher", RefusalError(400, f"what is {KEY}?")), {"api_key_env": "A_KEY"},
        "refuses a request .*: what is …",
    ),
    "it has lost the model": (
        fail("student", RefusalError(404, "The model `served` does not exist.")), {},
        "does not serve the model .*student_model",
    ),
    "it sends us elsewhere": (
        fail("student", RefusalError(307, "")), {}, "sends us elsewhere .307.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_has_one_message_that_says_what_to_do(
    name: str, urls: dict[str, str], fakes: dict[str, FakeVllm], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    change, engine, message = FAULTS[name]
    monkeypatch.setenv("A_KEY", KEY)
    change(fakes)
    engine = {key: value.format(**urls) for key, value in engine.items()}
    with pytest.raises(RunError, match=f"(?s){message}") as caught:
        chosen(urls, **engine)
    whole = "".join([str(caught.value), str(caught.value.__cause__), caplog.text])
    assert KEY not in whole and len(str(caught.value)) < 1200


def test_a_model_of_several_is_found_by_its_name(
    urls: dict[str, str], fakes: dict[str, FakeVllm]
) -> None:
    fakes["student"].models = [{"id": "x"}, {"id": "y", "root": str(BUNDLED / "student")}]
    _, facts = chosen(urls)
    assert facts["student"]["model"] == "y"
    assert {body["model"] for body in fakes["student"].bodies} == {"y"}


def test_a_tolerance_lets_another_model_pass_and_says_how_far_it_is(
    urls: dict[str, str], fakes: dict[str, FakeVllm]
) -> None:
    other_weights(fakes)
    _, facts = chosen(urls, tolerance=100.0)
    assert facts["teacher"]["largest_difference"] > 0.5


def test_a_model_that_has_no_room_here_is_not_compared_and_the_manifest_says_why(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "fits_here", lambda name, dtype: "teacher" not in name)
    _, facts = chosen(urls)
    assert facts["student"]["compared_with"] == "float32"
    assert facts["teacher"]["compared_with"] is None
    assert "more than half of the free memory" in facts["teacher"]["why"]
    assert "mean_difference" not in facts["teacher"]


def test_a_model_that_ends_at_once_is_compared_on_as_many_tokens(
    urls: dict[str, str], fakes: dict[str, FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(BUNDLED / "student")
    with torch.no_grad():
        for parameter in model.model.parameters():  # then its hidden state is a constant
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
        model.lm_head.weight[model.config.eos_token_id] = 1.0
    fakes["student"].model = model
    monkeypatch.setattr(probing, "fits_here", lambda name, dtype: False)
    _, facts = chosen(urls)
    assert facts["student"]["tokens"] == 16


def test_log_probabilities_that_are_not_finite_stop_the_work(
    urls: dict[str, str], fakes: dict[str, FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FakeVllm.answer

    def clamped(*arguments: Any) -> Any:
        answer = whole(*arguments)
        for choice in answer.get("choices", []):
            choice["logprobs"] = {"token_logprobs": [-9999.0]}
        return answer

    monkeypatch.setattr(FakeVllm, "answer", clamped)
    with pytest.raises(NumbersError, match="not finite"):
        chosen(urls)


@pytest.mark.parametrize(
    "answer",
    [[], {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"token_ids": None}]},
     {"choices": [{"token_ids": [1, 2], "logprobs": {"token_logprobs": [-1.0]}}]},
     {"choices": [{"token_ids": [], "logprobs": {"token_logprobs": []}}]}],
    ids=str,
)  # fmt: skip
def test_an_answer_of_another_form_is_refused_in_words(
    answer: Any, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FakeVllm._complete

    def other(self: FakeVllm, body: dict[str, Any]) -> Any:
        whole(self, body)
        return answer

    monkeypatch.setattr(FakeVllm, "_complete", other)
    with pytest.raises(RunError, match="student's server at .*: "):
        chosen(urls)


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "find_spec", lambda name: None)
    address = "http://127.0.0.1:9"
    with pytest.raises(RunError, match=r"pip install 'warmup-distill\[vllm\]'"):
        require_engine(EngineSection(name="vllm", student=address, teacher=address))
    require_engine(EngineSection())
