"""Completions that go on from an opening think tag which the chat template supplied, in files that do not say so."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)

MAX_DOUBTFUL = 20
"""Completions without any tag, for each that closes a section it did not open, that may have been cut in thought."""

_TAG = re.compile(r"([<\[])(/?)([^<>\[\]/\s]{0,30}(?:think|thought|reason)[^<>\[\]/\s]{0,30}[>\]])", re.IGNORECASE)


def supply_think_tags(groups: Sequence[dict[str, Any]], *, template: str, name: str) -> list[dict[str, Any]]:
    """Note at each completion of which nothing else is known what the chat template put in front of it.

    A template that ends with ``<think>`` shows in its completions: they close a section that they did not open. Those
    that were cut in thought have no tag at all. Where many completions ended by themselves without a tag, there was no
    such template, or whoever wrote the file took the thoughts out.

    Args:
        groups: As `polaris_eval.running.formats.read_completions` returns them; left as they are.
        template: The tag that the model's chat template ends with, if its tokenizer is known; else empty.
        name: Of the file, for the message.
    """
    completions = [each for group in groups for each in group["completions"] if "prefilled" not in each]
    first_tags = [_TAG.search(each["text"]) for each in completions]
    closed_only = Counter(tag[1] + tag[3] for tag in first_tags if tag and tag[2])
    unclosed = [each for each, tag in zip(completions, first_tags, strict=True) if not tag]
    # With a template known, nothing but an answer that ended without a tag speaks against it.
    doubtful = ("stop",) if template else ("stop", None)
    num_doubtful = sum(each["finish_reason"] in doubtful for each in unclosed)
    if not (template or closed_only) or num_doubtful > MAX_DOUBTFUL * closed_only.total():
        return list(groups)
    tag = template or closed_only.most_common(1)[0][0]
    if unclosed:
        logger.warning(
            "%s: %d of %d "
            "completions never close the %s that the chat template opened: they were cut in thought and have no answer",
            name,
            len(unclosed),
            len(completions),
            tag.strip(),
        )
    return [{**group, "completions": [{"prefilled": tag, **each} for each in group["completions"]]} for group in groups]
