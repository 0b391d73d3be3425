"""The published figures that the tables are set beside: Xi et al. 2024, tables 1 and 2 (medians over ten seeds).

A figure stands in the row of the published recipe. Their SCOT on the images is, to the digits printed, the uniform
coupling.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CITESEQ", "CITESEQ_R2", "IMAGES"]

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
