"""Decoding steps as CUDA graphs, and a store of them, which later drawings use again.

On a GPU, launching hundreds of small kernels from Python takes longer than running them. A CUDA graph launches all
kernels of a step at once. Capturing one runs the step several times, so a captured step is kept.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from atelier.blocks.bart import Bart
from atelier.decoding.sampling import Sampling
from atelier.decoding.step import DecodingStep, EncodedPrompts, encode_prompts

Advance = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # with the arguments of `DecodingStep.__call__`
TEXT_MULTIPLE = 16  # the width of prompts in graphs, so that prompts of similar length can use the same one

logger = logging.getLogger(__name__)


def as_cuda_graph(step: DecodingStep, *arguments: Tensor) -> Advance:
    """Capture a step as a CUDA graph.

    The shapes in a graph are fixed, so the step always attends to the whole cache.

    Args:
        step: the step to capture.
        *arguments: the tokens, positions and uniforms of the next step. Capturing runs the step a few times: its keys
            and values are written to the cache, and its codes are discarded.

    Returns:
        A function with the arguments of `DecodingStep.__call__`, for tensors of the same shapes.
    """
    static = tuple(argument.clone() for argument in arguments)  # the graph reads its arguments from these tensors
    graph: Any = torch.cuda.make_graphed_callables(partial(step, length=None), static)

    def launch(tokens: Tensor, positions: Tensor, uniforms: Tensor, length: int) -> Tensor:
        return graph(tokens, positions, uniforms)

    return launch


def captured(step: DecodingStep, *arguments: Tensor) -> Advance:
    """Capture a step with `as_cuda_graph`; if this fails, log a warning and return the step itself."""
    try:
        return as_cuda_graph(step, *arguments)
    except RuntimeError as fault:  # includes torch's accelerator errors and out-of-memory errors
        logger.warning("Decoding without a CUDA graph, which is slower, since capturing one failed: %s", fault)
        return step


class CapturedStep:
    """A step that is launched as a CUDA graph, captured with the first single token; before, it reads the first codes.

    Args:
        step: the step.
    """

    def __init__(self, step: DecodingStep) -> None:
        self.step = step
        self.graph: Advance | None = None

    def __call__(self, tokens: Tensor, positions: Tensor, uniforms: Tensor, length: int) -> Tensor:
        """Run the step; the arguments and the result are those of `DecodingStep.__call__`."""
        if tokens.shape[1] > 1:
            return self.step(tokens, positions, uniforms, length)
        if self.graph is None:
            self.graph = captured(self.step, tokens, positions, uniforms)
        return self.graph(tokens, positions, uniforms, length)

    def begin(self, prompts: EncodedPrompts, sampling: Sampling) -> None:
        """Prepare the step for another drawing, whose prompts have tensors of the same shapes."""
        self.step.prompts.copy_(prompts)
        self.step.set_sampling(sampling)
        self.step.cache.clear()
        self.step.finite.fill_(True)

    def check(self) -> None:
        """Check the numbers as `DecodingStep.check` does."""
        self.step.check()


class DecodingSteps:
    """Makes the step of each drawing. On a GPU it is captured, and kept for later drawings of the same shapes.

    A graph has fixed shapes and a fixed list of kernels. So two drawings can use the same step if their pictures,
    prompts and tokens are as many, and if their options of sampling differ in guidance and temperature only; whether
    there is guidance, and whether chance decides, must be the same. A step is removed while a drawing uses it: another
    drawing in another thread captures its own.

    Args:
        most: the number of steps to keep; each holds the keys and values of its pictures, 100 MB for nine pictures of
            DALL·E Mini. The one that has not been used for the longest time is deleted first.
    """

    def __init__(self, most: int = 2) -> None:
        self.most = most
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, CapturedStep] = OrderedDict()

    @contextmanager
    def step(
        self, bart: Bart, text: Tensor, empty: Tensor, pictures: int, sampling: Sampling, code_count: int
    ) -> Generator[DecodingStep | CapturedStep]:
        """Encode prompts and make the step of their drawing.

        Args:
            bart, text, empty, sampling, code_count: as for `decode`.
            pictures: the number of pictures of all prompts.
        """
        if not can_be_captured(text):
            prompts = encode_prompts(bart, text, empty, sampling.guided)
            yield DecodingStep(bart, prompts, pictures, sampling, code_count)
            return
        prompts = encode_prompts(bart, text, empty, sampling.guided, multiple=TEXT_MULTIPLE)
        fixed = (sampling.guided, sampling.greedy, sampling.top_k, sampling.top_p)
        key = (id(bart), prompts.mask.shape, pictures, code_count, *fixed)
        with self._lock:
            step = self._kept.pop(key, None)
        if step is None:
            step = CapturedStep(DecodingStep(bart, prompts, pictures, sampling, code_count))
        else:
            step.begin(prompts, sampling)
        try:
            yield step
        finally:
            with self._lock:
                self._kept[key] = step
                while len(self._kept) > self.most:
                    self._kept.popitem(last=False)


def can_be_captured(text: Tensor) -> bool:
    """Whether a step for these prompts can be a CUDA graph."""
    return text.is_cuda
