"""Where the methods come from."""

from __future__ import annotations

FLRC = "FLRC: Fine-grained Low-Rank Compressor for Efficient LLM Inference, arXiv:2510.09332"
ASVD = "ASVD, arXiv:2312.05821"
SVDLLM = "SVD-LLM, arXiv:2403.07378"
SKIPCAT = "SkipCat, arXiv:2512.13494"
KFAC = "KFAC-SVD and LEMS, https://openreview.net/forum?id=IjIgNPFuCt"
DISTILLATION = "knowledge distillation, arXiv:1503.02531"
OURS = "flrc's own method"

PAPERS: dict[str, tuple[str, ...]] = {
    "dense": (),
    "svd": (),
    "asvd": (ASVD,),
    "asvd_uniform": (ASVD,),
    "asvd_alloc": (ASVD, SVDLLM, FLRC),
    "svdllm": (SVDLLM,),
    "svdllm_v2": ("SVD-LLM V2, arXiv:2503.12340",),
    "drank": ("D-Rank, arXiv:2509.25622",),
    "atp": ("ATP (ICML 2025)", SVDLLM),
    "modegpt_alloc": ("MoDeGPT, arXiv:2408.09632", SVDLLM),
    "prunergpt_alloc": ("arXiv:2310.09499", SVDLLM),
    "bolaco_alloc": ("Bolaco, arXiv:2405.10616", SVDLLM),
    "flra": (FLRC,),
    "flrc": (FLRC,),
    "plrd": (FLRC,),
    "skipcat": (SKIPCAT,),
    "lems": (KFAC,),
    "kfac": (OURS, KFAC),
    "flrc_kfac": (OURS, FLRC, KFAC),
    "flrc_kfac_skip": (OURS, FLRC, KFAC, SKIPCAT),
    "kfac_skip": (OURS, KFAC, SKIPCAT),
    "kfac_skipcat": (OURS, KFAC, SKIPCAT),
    "svdllm_healed": (OURS, SVDLLM, DISTILLATION),
    "flra_healed": (OURS, FLRC, DISTILLATION),
    "flrc_healed": (OURS, FLRC, DISTILLATION),
    "kfac_skip_healed": (OURS, KFAC, SKIPCAT, DISTILLATION),
    "flrc_kfac_healed": (OURS, FLRC, KFAC, DISTILLATION),
}
"""What each method of ``conf/method`` is taken from, or builds on."""
