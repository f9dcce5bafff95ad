"""Rows that evaluation harnesses write, each by a function of its own."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from polaris_data.completions.by_names import by_names, from_response, model_of, problem_columns
from polaris_data.completions.chat import asked_in
from polaris_data.completions.sampled import Columns, Sampled, as_object, error_text, to_completion
from polaris_data.problems.columns import structured
from polaris_data.problems.conversion import take_fields, to_statement


def evalscope_review(columns: Columns) -> Sampled:
    """Read a review of evalscope 1: the response, and what its grader says of it."""
    sample = columns["sample_score"]
    score = as_object(sample.get("score"))
    verdict = next((each for each in as_object(score.get("value")).values() if each in (0, 1)), None)
    number = next((each for each in (sample.get("group_id"), columns.get("index")) if each is not None), None)
    problem = {"id": number, "question": _from_markdown(asked_in(columns)), "answer": columns.get("target")}
    return Sampled(problem=problem, completions=[to_completion(score.get("prediction"), reward=verdict)])


def evalscope_prediction(columns: Columns) -> Sampled:
    """Read a prediction of evalscope 1: a chat response, with the messages that led to it."""
    problem = {"id": columns.get("index"), "question": asked_in(columns), "answer": columns.get("target")}
    completions = from_response(columns["model_output"]) or [to_completion(None)]
    return Sampled(problem=problem, completions=completions, model=model_of(columns))


def evalscope_old(columns: Columns) -> Sampled:
    """Read a prediction or review of evalscope before 1: a chat response beside the row of the data set."""
    raw = columns["raw_input"]
    problem = problem_columns(raw if isinstance(raw, Mapping) else {"question": raw})
    review = next((each["review"] for each in columns["choices"] if isinstance(each.get("review"), Mapping)), {})
    if review.get("gold") is not None:
        problem = {name: value for name, value in problem.items() if name != "answer"} | {"references": review["gold"]}
    return Sampled(problem=problem, completions=from_response(columns), prompts=columns.get("origin_prompt"))


def inspect_sample(columns: Columns) -> Sampled:
    """Read a sample of a log of inspect: one epoch of one problem."""
    output, attachments = as_object(columns["output"]), as_object(columns.get("attachments"))
    completions = [_attached(each, attachments) for each in from_response(output)]
    error = error_text(columns.get("error")) or error_text(output.get("error"))
    if error or not completions:
        completions = [{"text": None, "error": error or "the sample has no output"}]
    problem = {"id": columns.get("id"), "question": columns.get("input"), "answer": columns.get("target")}
    problem |= {"choices": columns["choices"]} if columns.get("choices") else {}
    return Sampled(problem=problem, completions=completions, model=output.get("model") or None)


def lighteval(columns: Columns) -> Sampled:
    """Read a detail of lighteval: the document with its choices, and the responses of the model."""
    doc, response = (
        as_object(structured(columns.get(name, columns.get(f"__{name}__")))) for name in ("doc", "model_response")
    )
    choices, index = doc.get("choices"), doc.get("gold_index")
    if not isinstance(choices, list) or index is None:
        raise ValueError("'doc' has no 'choices' and 'gold_index' that say the accepted answer")
    texts = _listed(response.get("text"))
    lengths = _beside(response.get("output_tokens"), texts)
    references = [choices[each] for each in (index if isinstance(index, list) else [index])]
    return Sampled(
        problem={"id": doc.get("id"), "question": doc.get("query"), "references": references},
        completions=[
            to_completion(text, token_ids=ids, num_tokens=len(ids) if isinstance(ids, list) else None)
            for text, ids in zip(texts, lengths, strict=True)
        ],
        prompts=[response.get("input"), doc.get("query")],
    )


def lighteval_old(columns: Columns) -> Sampled:
    """Read a detail of lighteval before 0.10: lists, or the text of lists."""
    rest = problem_columns(columns, "predictions", "gold", "choices", "metrics", "specifics", "pred_logits")
    question = columns.get("example")
    problem = rest | ({} if question is None else {"question": question})
    if (gold := columns.get("gold")) is not None:
        problem |= {"answer": _listed(gold)}
    return Sampled(
        problem=problem, completions=[to_completion(each) for each in _listed(columns["predictions"])], prompts=rest
    )


def lm_eval(columns: Columns) -> Sampled:
    """Read a line of a sample log of lm-eval, which repeats every completion for each of its filters."""
    doc = columns.get("doc")
    question = to_statement(take_fields(problem_columns(doc))) if isinstance(doc, Mapping) else doc
    rest = problem_columns(columns, "doc", "resps", "filtered_resps", "arguments", "target", "filter")
    return Sampled(
        problem={
            "id": columns.get("doc_id", doc.get("id") if isinstance(doc, Mapping) else None),
            **rest,
            "question": question or rest.get("question") or _first_text(columns.get("arguments")),
            **({} if columns.get("target") is None else {"answer": columns["target"]}),
        },
        completions=[to_completion(each) for each in _leaves(columns["resps"])],
        prompts=[rest, columns.get("arguments")],
        variant=columns.get("filter"),
    )


def matharena_runs(columns: Columns) -> Sampled:
    """Read a file of MathArena's own: all conversations about one problem."""
    several = columns["messages"]
    costs, verdicts = (_beside(columns.get(name), several) for name in ("detailed_costs", "correct"))
    completions = [
        to_completion(
            messages,
            num_tokens=as_object(cost).get("output_tokens"),
            correct=verdict if isinstance(verdict, bool) else None,
        )
        for messages, cost, verdict in zip(several, costs, verdicts, strict=True)
    ]
    problem = {"id": columns.get("idx"), "question": columns["problem"], "answer": columns.get("gold_answer")}
    return Sampled(problem=problem, completions=completions)


def matharena_row(columns: Columns) -> Sampled:
    """Read a row of MathArena's published outputs, in which ``answer`` is the response."""
    problem = {
        "id": columns.get("problem_idx"),
        "question": columns.get("problem") or asked_in(columns),
        "answer": columns.get("gold_answer"),
    }
    verdict = columns.get("correct")
    completion = to_completion(
        columns.get("answer"),
        num_tokens=columns.get("output_tokens"),
        correct=verdict if verdict in (True, False) else None,
    )
    return Sampled(problem=problem, completions=[completion], model=columns.get("model_name"))


def opencompass(columns: Columns) -> Sampled:
    """Read a prediction of OpenCompass: its prompt may be a list of turns with a ``prompt`` each."""
    prompt = _asked_last(columns["origin_prompt"])
    predictions = columns.get("prediction")
    if isinstance(predictions, list) and isinstance(columns.get("gold"), list) and not _said_once(columns):
        raise ValueError("a conversation of several rounds; give files of one question each")
    completions = [
        to_completion(each, num_tokens=columns.get("res_length") if type(columns.get("res_length")) is int else None)
        for each in (predictions if isinstance(predictions, list) else [predictions])
    ]
    number = next((columns[name] for name in ("id", "idx") if columns.get(name) is not None), None)
    problem = {"id": number, "question": prompt, "answer": columns.get("gold")}
    return Sampled(problem=problem, completions=completions, prompts=columns["origin_prompt"])


def opencompass_result(columns: Columns) -> Sampled:
    """Read a detail of OpenCompass's results, where ``pred`` is what was taken from ``origin_prediction``."""
    reference = next(
        (columns[name] for name in ("references", "gold", "answer") if columns.get(name) is not None), None
    )
    problem = {"id": columns.get("id"), "question": _asked_last(columns.get("prompt")), "answer": reference}
    said = columns["origin_prediction"]
    completions = [to_completion(each) for each in (cast("list[Any]", said) if isinstance(said, list) else [said])]
    return Sampled(problem=problem, completions=completions, prompts=columns.get("prompt"))


def _asked_last(prompt: Any) -> Any:
    """Return what the user asks last in a prompt of OpenCompass: a text, or turns with a ``prompt`` each."""
    if not isinstance(prompt, list):
        return prompt
    said = [turn for turn in cast("list[Any]", prompt) if isinstance(turn, Mapping)]
    return next((turn.get("prompt") for turn in reversed(said) if str(turn.get("role")).upper() == "HUMAN"), None)


def _said_once(columns: Columns) -> bool:
    """Return whether a prompt of OpenCompass is that of one question, and not of each round of a conversation."""
    prompt = columns["origin_prompt"]
    return not (isinstance(prompt, list) and any(isinstance(each, list) for each in cast("list[Any]", prompt)))


def qwen_math(columns: Columns) -> Sampled:
    """Read a row of the evaluation of Qwen2.5-Math: ``code`` holds the responses, ``gt`` the accepted answer."""
    problem = problem_columns(
        columns, "code", "pred", "report", "score", "gt", "gt_cot", "answer", "solution", "idx", "prompt"
    )
    reference = next((columns[name] for name in ("gt", "answer") if columns.get(name) not in (None, "")), None)
    codes, scores = columns["code"], _beside(columns.get("score"), columns["code"])
    return Sampled(
        problem={"id": columns.get("idx"), **problem, "answer": reference},
        completions=[to_completion(text, correct=score) for text, score in zip(codes, scores, strict=True)],
        prompts=columns.get("prompt"),
    )


def nemo_skills(columns: Columns) -> Sampled:
    """Read a line of NeMo-Skills; thoughts that it took out of ``generation`` are in ``_full_generation``."""
    error = error_text(columns.get("error") or columns.get("detailed_error"))
    thoughts = {"reasoning_content": ""} if columns.get("_full_generation") else {}
    return by_names({**columns, **thoughts, "error": error})


def zero_eval(columns: Columns) -> Sampled:
    """Read a row of ZeroEval: the session, what was said in it, and the columns of the data set."""
    rest = problem_columns(columns, "output", "session_id", "chat_history", "model_input", "generator", "configs")
    history = columns["chat_history"]
    asked = history[-1] if isinstance(history, list) and history and isinstance(history[-1], str) else None
    has_question = to_statement(take_fields(rest)) is not None
    return Sampled(
        problem={"id": columns.get("session_id"), **rest, **({} if has_question else {"question": asked})},
        completions=[to_completion(each) for each in _listed(columns["output"], is_text=True)],
        prompts=columns.get("model_input"),
        model=columns.get("generator"),
    )


def _beside(value: Any, several: Sequence[Any]) -> list[Any]:
    """Return what a list says of each of several completions; nothing where it is of others."""
    is_of_them = isinstance(value, list) and len(cast("list[Any]", value)) == len(several)
    return value if is_of_them else [None] * len(several)


_SPEAKER = re.compile(r"\*\*(User|Assistant|System|Tool)\*\*:\s*")


def _from_markdown(question: Any) -> Any:
    """Return what the user asked last in a conversation that is written as one text."""
    if not isinstance(question, str):
        return question
    said = _SPEAKER.split(question)
    asked = [text for speaker, text in zip(said[1::2], said[2::2], strict=True) if speaker == "User"]
    return asked[-1].strip() if asked else question


def _attached(completion: dict[str, Any], attachments: Mapping[str, Any]) -> dict[str, Any]:
    """Put in the text that a log keeps apart from where it belongs."""
    text = completion["text"]
    if not isinstance(text, str) or not text.startswith("attachment://"):
        return completion
    found = attachments.get(text.removeprefix("attachment://"))
    if isinstance(found, str):
        return completion | {"text": found}
    return completion | {"text": None, "defect": f"its text is kept apart, at {text}, and not there"}


def _listed(value: Any, *, is_text: bool = False) -> list[Any]:
    """Return a list that may have been written as the text of one, or as one text."""
    value = value if is_text else structured(value)
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _leaves(each)
    else:
        yield value


def _first_text(value: Any) -> str | None:
    """Return the first text in what lm-eval gave to the model."""
    if isinstance(value, str):
        return value
    inner = cast("list[Any]", value) if isinstance(value, list) else as_object(value).values()
    return next((found for each in inner if (found := _first_text(each)) is not None), None)
