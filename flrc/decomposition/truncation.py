"""Truncation-optimal factors of a weight under a quadratic metric on its inputs (float64).

Every decomposition here is one SVD of ``W S`` for some input transform ``S``, undone on the right:
``W = U Sigma (V^T S^-1)``. They differ in ``S`` only: identity, a diagonal, or a root of the Gram
matrix. The singular values are split evenly, ``sqrt(Sigma)`` on either side, which keeps both
factors in the range of float16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flrc.decomposition.factors import Factors


@dataclass(frozen=True)
class Root:
    """A matrix ``root`` with ``root @ root.T == gram`` and its (pseudo-)inverse.

    Attributes:
        root: ``(n, k)`` float64; lower triangular and ``k == n`` where Cholesky succeeded.
        inverse: ``(k, n)`` float64, ``root @ inverse`` projects on the range of the Gram matrix.
        rescue: None, or why the eigen path was taken and how many directions it kept.
    """

    root: Float[Tensor, "n k"]
    inverse: Float[Tensor, "k n"]
    rescue: str | None


def gram_root(gram: Float[Tensor, "n n"], cutoff: float) -> Root:
    """A root of a Gram matrix: Cholesky, or eigenvectors where it is singular.

    Both give the same truncation loss (they differ by a rotation). Nothing is damped.

    Args:
        gram: ``(n, n)``, any float dtype; computed in float64.
        cutoff: Eigen path: directions with an eigenvalue at most ``cutoff`` times the largest are
            dropped; they carry no calibration energy.

    Raises:
        ValueError: If the matrix is not finite or has no energy at all.

    Source: SVD-LLM (arXiv 2403.07378), section 3.1 (Cholesky); SVD-LLM V2 (2503.12340), theorem
        form (eigen).
    """
    gram = gram.double()
    if not bool(torch.isfinite(gram).all()):
        raise ValueError("the Gram matrix is not finite: the calibration inputs overflowed")
    identity = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    root, info = torch.linalg.cholesky_ex(gram)
    if int(info) == 0:
        diagonal = root.diagonal()
        # A pivot lost in rounding "succeeds" with a root that cannot be inverted meaningfully.
        if float(diagonal.min()) ** 2 > cutoff * float(diagonal.max()) ** 2:
            return Root(root, torch.linalg.solve_triangular(root, identity, upper=False), None)
    values, vectors = torch.linalg.eigh(gram)
    largest = float(values[-1])
    if largest <= 0:
        raise ValueError("the Gram matrix is zero: the layer saw no calibration input")
    keep = values > cutoff * largest
    scale = values[keep].sqrt()
    kept = vectors[:, keep]
    rescue = f"singular Gram: eigen path, {int(keep.sum())} of {len(values)} directions kept"
    return Root(kept * scale, (kept / scale).T.contiguous(), rescue)


def truncated(
    weight: Float[Tensor, "m n"],
    root: Float[Tensor, "n k"] | None = None,
    inverse: Float[Tensor, "k n"] | None = None,
    rescue: str | None = None,
) -> Factors:
    """Factors of ``weight`` whose every prefix minimises ``||(W - W') root||_F`` at its rank.

    Args:
        weight: ``(d_out, d_in)``.
        root: Input transform; None for the identity.
        inverse: Its (pseudo-)inverse.
        rescue: Carried over to the factors.

    Returns:
        float64 factors of rank ``min(d_out, k)``.

    Source: SVD-LLM (arXiv 2403.07378), eq. 7 and theorem 3.2: the loss is the sum of the dropped
        squared
    singular values of ``W root``.
    """
    weight = weight.double()
    left, spectrum, right_t = torch.linalg.svd(
        weight if root is None else weight @ root, full_matrices=False
    )
    half = spectrum.sqrt()
    right = right_t if inverse is None else right_t @ inverse
    return Factors(
        left_t=(left * half).T.contiguous(),
        right=(half[:, None] * right).contiguous(),
        spectrum=spectrum,
        rescue=rescue,
    )
