"""The published figures that the tables are set beside: Xi et al. 2024, tables 1 and 2 (medians over ten seeds).

A figure stands in the row of the published recipe. Their SCOT on the images is, to the digits printed, the uniform
coupling.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CITESEQ", "CITESEQ_R2", "CLUE_ABLATION", "CLUE_CITESEQ", "IMAGES"]

IMAGES: Mapping[tuple[str, str], str] = {
    ("ps-published+ot", "latent_mse"): "0.0316",
    ("ps-published+ot", "trace_e3"): "18.3",
    ("vae-published+ot", "latent_mse"): "0.0324",
    ("vae-published+ot", "trace_e3"): "7.7",
    ("ps-published+snn", "latent_mse"): "0.0552",
    ("ps-published+snn", "trace_e3"): "7.9",
    ("vae-published+snn", "latent_mse"): "0.0622",
    ("vae-published+snn", "trace_e3"): "3.1",
    ("scot", "latent_mse"): "0.0354",
    ("scot", "trace_e3"): "0.60",
    ("random", "latent_mse"): "0.0709",
    ("random", "trace_e3"): "0.59",
}

CITESEQ: Mapping[tuple[str, str], str] = {
    ("ps-published+ot", "foscttm_sampled"): "0.3049",
    ("ps-published+ot", "trace"): "0.1163",
    ("vae-published+ot", "foscttm_sampled"): "0.3953",
    ("vae-published+ot", "trace"): "0.0814",
    ("ps-published+snn", "foscttm_sampled"): "0.3126",
    ("ps-published+snn", "trace"): "0.0941",
    ("vae-published+snn", "foscttm_sampled"): "0.3816",
    ("vae-published+snn", "trace"): "0.0612",
    ("scot", "foscttm_sampled"): "0.4596",
    ("scot", "trace"): "0.0200",
    ("glue+snn", "foscttm_sampled"): "0.4412",
    ("glue+snn", "trace"): "0.0362",
    ("glue+ot", "foscttm_sampled"): "0.5309",
    ("glue+ot", "trace"): "0.0323",
}

CITESEQ_R2: Mapping[tuple[str, str], str] = {
    ("ps-published+ot", "r2_mse"): "0.217",
    ("ps-published+ot", "r2_unbiased"): "0.233",
    ("vae-published+ot", "r2_mse"): "0.149",
    ("vae-published+ot", "r2_unbiased"): "0.114",
    ("random", "r2_mse"): "0.138",
    ("random", "r2_unbiased"): "0.173",
    ("pairs", "r2_mse"): "0.224",
}

CLUE_CITESEQ: Mapping[tuple[str, str], str] = {
    ("clue", "matching_score_there"): "0.0495",
    ("clue", "matching_score_back"): "0.0516",
    ("clue", "foscttm"): "0.0140",
    ("cobolt", "matching_score_there"): "0.0147",
    ("cobolt", "matching_score_back"): "0.0123",
    ("cobolt", "foscttm"): "0.0457",
    ("multivi", "matching_score_there"): "0.0063",
    ("multivi", "matching_score_back"): "0.0056",
    ("multivi", "foscttm"): "0.0872",
    ("bridge", "matching_score_there"): "0.0126",
    ("bridge", "matching_score_back"): "0.0102",
    ("bridge", "foscttm"): "0.0311",
}
"""Tu et al. 2022, tables 2 and 4, CITE-seq of the competition (means)."""

CLUE_ABLATION: Mapping[str, tuple[str, str, str]] = {
    "clue": ("0.0495", "0.0516", "0.0539"),
    "clue-without-cos": ("0.0400", "0.0423", "0.0451"),
    "clue-without-cross": ("0.0412", "0.0448", "0.0444"),
    "clue-without-adversary": ("0.0286", "0.0413", "0.0284"),
    "clue-cos-only": ("0.0320", "0.0429", "0.0253"),
    "clue-cross-only": ("0.0210", "0.0233", "0.0250"),
    "clue-adversary-only": ("0.0098", "0.0114", "0.0115"),
    "clue-none": ("0.0002", "0.0002", "0.0001"),
}
"""Tu et al. 2022, table 5: matching score from genes to proteins, back, and overall with the pairs of ATAC."""
