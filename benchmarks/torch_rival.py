"""PyTorch: autograd of the losses, eager or compiled; layers as `torch.nn.Linear` keeps them.

Samples are rows. The eager program keeps the graph of the prediction while the critic moves, and
updates in place. The compiled one is the whole step, gradients by `torch.func`, in one graph.
"""

from __future__ import annotations

from typing import Any

import torch
from rivals import Rival
from torch.nn.functional import linear

from prdsim.backends.arrays import HostArray
from prdsim.timing.workload import Workload


class TorchRival(Rival):
    """The alternating algorithm in PyTorch, on the CPU or a GPU; ``compiled`` by its compiler."""

    def __init__(
        self, workload: Workload, threads: int, *, compiled: bool = False, device: str = "cpu"
    ) -> None:
        super().__init__(workload)
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        self.X, self.Y = self.put(workload.X.T), self.put(workload.Y.T)
        self.parameters = [self.put(workload.initial[name]) for name in "UVWa"]
        self._take_step: Any = self._eager_step
        if compiled:
            self._take_step = torch.compile(self._functional_step)
        else:
            for parameter in self.parameters:
                parameter.requires_grad_()

    def put(self, array: HostArray) -> torch.Tensor:
        dtype = getattr(torch, self.config.precision)
        return torch.tensor(array.copy(), dtype=dtype, device=self._device)

    def advance(self, steps: int) -> None:
        for k in range(steps):
            self._take_step(*self.parameters, self.points[k])
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    # -- the losses ----------------------------------------------------------------------------

    def _prediction(self, U: Any, V: Any) -> Any:
        return self.s * linear(torch.relu(linear(self.X, U)), V)

    def _g(self, W: Any, a: Any, points: Any) -> Any:
        return self.s_c * torch.mv(torch.relu(linear(points, W)), a)

    def _loss(self, Z: Any, W: Any, a: Any) -> Any:
        """L_aug = L_sup - D L_adv."""
        loss = 0.5 * (Z - self.Y).square().sum()
        if not self.config.adversary:
            return loss
        return loss - self.config.diffusivity * self._g(W, a, Z).sum()

    def _critic_loss(self, W: Any, a: Any, Z: Any, q: Any) -> Any:
        """L_c, given the critic's gradients q at the penalty points."""
        penalty = (torch.linalg.vector_norm(q, dim=1) - 1).square().mean()
        wasserstein = self._g(W, a, Z).mean() - self._g(W, a, self.Y).mean()
        return wasserstein + self.config.gradient_penalty * penalty

    # -- a step --------------------------------------------------------------------------------

    def _eager_step(self, U: Any, V: Any, W: Any, a: Any, points: Any) -> None:
        Z = self._prediction(U, V)
        if points is not None:
            for e in points:
                self._eager_critic_update(W, a, Z.detach(), e[:, None])
            W, a = W.detach(), a.detach()
        dU, dV = torch.autograd.grad(self._loss(Z, W, a), (U, V))
        with torch.no_grad():
            U.sub_(dU, alpha=self.step_size)
            V.sub_(dV, alpha=self.step_size)

    def _eager_critic_update(self, W: Any, a: Any, Z: Any, e: Any) -> None:
        between = torch.lerp(Z, self.Y, e).requires_grad_()
        (q,) = torch.autograd.grad(self._g(W, a, between).sum(), between, create_graph=True)
        dW, da = torch.autograd.grad(self._critic_loss(W, a, Z, q), (W, a))
        with torch.no_grad():
            W.sub_(dW, alpha=self.critic_step_size)
            a.sub_(da, alpha=self.critic_step_size)

    def _functional_step(self, U: Any, V: Any, W: Any, a: Any, points: Any) -> None:
        if points is not None:
            Z = self._prediction(U, V)
            for e in points.unbind():
                between = torch.lerp(Z, self.Y, e[:, None])
                dW, da = torch.func.grad(self._penalized_loss, (0, 1))(W, a, Z, between)
                W.sub_(dW, alpha=self.critic_step_size)
                a.sub_(da, alpha=self.critic_step_size)
        dU, dV = torch.func.grad(lambda U, V: self._loss(self._prediction(U, V), W, a), (0, 1))(
            U, V
        )
        U.sub_(dU, alpha=self.step_size)
        V.sub_(dV, alpha=self.step_size)

    def _penalized_loss(self, W: Any, a: Any, Z: Any, between: Any) -> Any:
        q = torch.func.grad(lambda points: self._g(W, a, points).sum())(between)
        return self._critic_loss(W, a, Z, q)

    def weights(self) -> dict[str, HostArray]:
        arrays = [parameter.detach().cpu().numpy() for parameter in self.parameters]
        return dict(zip("UVWa", arrays, strict=True))

    def describe(self) -> dict[str, Any]:
        device = "cpu" if self._device.type == "cpu" else torch.cuda.get_device_name(self._device)
        return {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": device}
