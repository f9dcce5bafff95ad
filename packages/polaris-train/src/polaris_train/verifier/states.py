"""What a verifier sees of a completion: the model's last hidden state at its end token."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from polaris_data.files import track
from polaris_rollout import encode_prompts, local_folder, resolve_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from polaris_train.errors import VerifierError


class Reader:
    """A frozen model that reads questions with completions.

    Attributes:
        model: Folder that it was loaded from.
    """

    def __init__(self, model: str, *, suffix: str) -> None:
        """Load the model, on the GPU where there is one.

        Args:
            model: Folder, Hub id, or ``tiny``.
            suffix: That every question had in the prompt.
        """
        self.model = str(local_folder(resolve_model(model)))
        self._suffix = suffix
        self._tokenizer: Any = AutoTokenizer.from_pretrained(self.model)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        loaded: Any = AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype)
        self._network = loaded.model.to(self._device).eval()

    @torch.no_grad()
    def states(self, groups: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """Return [completions, hidden] the state after each completion, in float32, one completion at a time.

        Args:
            groups: As `polaris_eval.running.read_completions` gives them.

        Raises:
            VerifierError: If a group has no question.
        """
        for group in groups:
            if "question" not in group:
                raise VerifierError(
                    f"problem {group['problem_id']!r} has completions but no question; give the problems with "
                    "--problems FILE"
                )
        prompts = encode_prompts(self._tokenizer, [group["question"] + self._suffix for group in groups])
        found: list[torch.Tensor] = []
        pairs = list(zip(groups, prompts, strict=True))
        for group, prompt in track(pairs, total=len(pairs), label="reading completions"):
            for each in group["completions"]:
                # A completion's text lacks the token that ended it; one that was cut short has none.
                end = [] if each.get("finish_reason") == "length" else [self._tokenizer.eos_token_id]
                text = self._tokenizer.encode(each.get("text") or "", add_special_tokens=False)
                ids = torch.tensor([[*prompt, *text, *end]], device=self._device)
                found.append(self._network(input_ids=ids, use_cache=False).last_hidden_state[0, -1].float().cpu())
        return torch.stack(found)
