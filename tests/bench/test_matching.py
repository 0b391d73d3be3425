"""What the benches of matchings have in common: what a space had to say of itself stands under the table once."""

from unpaired.bench.matching import notes_text


def test_notes_are_listed_by_case_space_and_seeds():
    def of(method, seed, *notes):
        return {"case": "pbmc", "method": method, "seed": seed, "space": {"notes": list(notes)}}

    results = [
        of("glue+ot", 0, "9 links", "balancing was skipped"),
        of("glue+snn", 0, "9 links", "balancing was skipped"),
        of("glue+ot", 2, "9 links"),
        of("random", 0),
        {"case": "pbmc", "method": "pairs", "seed": 0, "failed": "no luck."},
    ]
    assert notes_text(results) == (
        "- scGLUE, pbmc, seeds 0, 2: 9 links.\n- scGLUE, pbmc, seed 0: balancing was skipped.\n"
    )
    assert notes_text([]) == ""
