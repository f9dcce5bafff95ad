"""What a stage with CORE knows of right answers before its first step: of the stage before, or of the run's profile.

As published, the consensus of a problem begins with right answers that were sampled beforehand. A profile is of the
recipe's model, also where a stage of supervised fine-tuning comes first: what it underlines is up to the prompt.
"""

import hashlib
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from polaris_data import Problem, read_problems
from polaris_data.files import track, write_text
from polaris_data.profile import has_grades, read_grades, rollouts_path
from polaris_reward import Outcome
from polaris_reward.core import underlined
from polaris_rollout.store import read_store

from polaris_train.grpo.consensus import Consensuses
from polaris_train.recipe.tables import Core
from polaris_train.run_folder import RunFolder, StageFolder

logger = logging.getLogger(__name__)


def first_consensus(
    core: Core, earlier: Sequence[StageFolder], folder: StageFolder, problems: Sequence[Problem]
) -> str | None:
    """Write what the stage begins with into its folder, and return its content hash; ``None`` where nothing is known.

    Once the stage is prepared this is settled, so that it continues with what it began with.

    Args:
        core: Of the recipe.
        earlier: Folders of the run's stages before.
        folder: Of the stage.
        problems: That it trains on.

    Raises:
        DataError: If the run's profile cannot be read.
        RolloutError: If its completions cannot be read.
    """
    if left := [each.consensus for each in earlier if each.consensus.exists()]:
        content = left[-1].read_bytes()
        if not folder.first_consensus.exists():
            write_text(folder.first_consensus, [content.decode()])
        return hashlib.sha256(content).hexdigest()
    if not folder.resolved.exists():
        folder.first_consensus.unlink(missing_ok=True)
        known = _profiled(core, folder.run, problems)
        if known is not None:
            known.write(folder.first_consensus)
    return hashlib.sha256(folder.first_consensus.read_bytes()).hexdigest() if folder.first_consensus.exists() else None


def _profiled(core: Core, run: RunFolder, problems: Sequence[Problem]) -> Consensuses | None:
    """Return what the right answers of the run's profile underline; ``None`` without any."""
    rollouts = rollouts_path(run.profile)
    if not (run.training.is_file() and has_grades(rollouts)):
        return None
    # Where a stage is given its problems by hand, the same id may be that of another one.
    asked = {each.problem_id: (each.question, each.references) for each in read_problems(run.training)}
    same = [each for each in problems if asked.get(each.problem_id) == (each.question, each.references)]
    known, counts = Consensuses(same, min_count=core.min_count), Counter[str]()
    for problem_id, right in _right_answers(rollouts, {each.problem_id for each in same}, counts):
        known.learn(problem_id, right)
        counts["right"] += len(right)
        counts["silent"] += sum(not underlined(text) for text in right)
    logger.warning(
        "consensus of the profile: %d right answers, %d of which underline nothing%s; %d of %d problems begin with "
        "results that %d agree on",
        *(counts["right"], counts["silent"]),
        f", {counts['ungraded']} answers without a grade" if counts["ungraded"] else "",
        *(known.num_agreed, len(problems), core.min_count),
    )
    return known if counts["right"] > counts["silent"] else None


def _right_answers(store: Path, problem_ids: set[str], counts: Counter[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the right answers of each group in the store of a profile; count those whose grade is missing."""
    graded = sorted(
        (each for each in read_grades(store) if each.problem_id in problem_ids), key=lambda each: each.first_sample
    )
    outcomes = defaultdict[str, deque[str]](deque)
    for each in graded:
        outcomes[each.problem_id].extend(each.outcomes)
    groups = read_store(store, problem_ids=problem_ids)
    for group in track(groups, total=len(graded), label="reading the answers of the profile"):
        left = outcomes[group.problem_id]
        found = [(text, left.popleft()) for text in group.texts if left]
        counts["ungraded"] += len(group.texts) - len(found)
        yield group.problem_id, [text for text, outcome in found if outcome == Outcome.CORRECT]
