"""Which gene makes which protein, by name: the prior knowledge that scGLUE is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from unicodedata import lookup

__all__ = ["ALIASES", "gene_protein_links"]

# Names of surface proteins as antibody panels for CITE-seq write them, and the genes (HGNC symbols) of what the
# antibody binds: the chains of a complex, the members of a family that it does not tell apart, and for isoforms
# (CD45RA, CD45RO) the one gene they come from. A protein that is called like its gene needs no entry.
_TABLE = """
4-1BB TNFRSF9 | B220 PTPRC | B7-H1 CD274 | C-KIT KIT | CCR4 CCR4 | CD1 CD1A CD1B CD1C | CD10 MME | CD101 CD101
CD103 ITGAE | CD105 ENG | CD106 VCAM1 | CD107A LAMP1 | CD11A ITGAL | CD11B ITGAM | CD11C ITGAX | CD112 NECTIN2
CD115 CSF1R | CD116 CSF2RA | CD117 KIT | CD119 IFNGR1 | CD122 IL2RB | CD123 IL3RA | CD124 IL4R | CD126 IL6R
CD127 IL7R | CD13 ANPEP | CD130 IL6ST | CD133 PROM1 | CD134 TNFRSF4 | CD135 FLT3 | CD137 TNFRSF9 | CD138 SDC1
CD140A PDGFRA | CD140B PDGFRB | CD141 THBD | CD142 F3 | CD144 CDH5 | CD146 MCAM | CD15 FUT4 | CD150 SLAMF1
CD152 CTLA4 | CD154 CD40LG | CD155 PVR | CD158 KIR2DL1 KIR2DL3 KIR2DS1 | CD158B KIR2DL2 KIR2DL3
CD158E1 KIR3DL1 | CD16 FCGR3A FCGR3B | CD161 KLRB1 | CD162 SELPLG | CD169 SIGLEC1 | CD172A SIRPA | CD178 FASLG
CD18 ITGB2 | CD183 CXCR3 | CD184 CXCR4 | CD185 CXCR5 | CD186 CXCR6 | CD191 CCR1 | CD192 CCR2 | CD193 CCR3
CD194 CCR4 | CD195 CCR5 | CD196 CCR6 | CD197 CCR7 | CD20 MS4A1 | CD201 PROCR | CD21 CR2 | CD218A IL18R1 | CD223 LAG3
CD224 GGT1 | CD23 FCER2 | CD235A GYPA | CD235AB GYPA GYPB | CD24 CD24 | CD25 IL2RA | CD252 TNFSF4 | CD253 TNFSF10
CD26 DPP4 | CD267 TNFRSF13B | CD268 TNFRSF13C | CD269 TNFRSF17 | CD270 TNFRSF14 | CD272 BTLA | CD273 PDCD1LG2
CD275 ICOSLG | CD278 ICOS | CD279 PDCD1 | CD28 CD28 | CD29 ITGB1 | CD294 PTGDR2 | CD3 CD3D CD3E CD3G | CD303 CLEC4C
CD304 NRP1 | CD307D FCRL4 | CD307E FCRL5 | CD309 KDR | CD31 PECAM1 | CD314 KLRK1 | CD319 SLAMF7
CD32 FCGR2A FCGR2B FCGR2C | CD324 CDH1 | CD325 CDH2 | CD326 EPCAM | CD328 SIGLEC7 | CD33 CD33 | CD335 NCR1
CD336 NCR2 | CD337 NCR3 | CD339 JAG1 | CD35 CR1 | CD352 SLAMF6 | CD354 TREM1 | CD357 TNFRSF18 | CD366 HAVCR2
CD370 CLEC9A | CD39 ENTPD1 | CD41 ITGA2B | CD42B GP1BA | CD43 SPN | CD45 PTPRC | CD45R PTPRC | CD45RA PTPRC
CD45RB PTPRC | CD45RO PTPRC | CD49A ITGA1 | CD49B ITGA2 | CD49C ITGA3 | CD49D ITGA4 | CD49E ITGA5 | CD49F ITGA6
CD50 ICAM3 | CD51 ITGAV | CD54 ICAM1 | CD56 NCAM1 | CD57 B3GAT1 | CD61 ITGB3 | CD62E SELE | CD62L SELL | CD62P SELP
CD64 FCGR1A FCGR1B | CD66A CEACAM1 | CD66B CEACAM8 | CD66C CEACAM6 | CD66E CEACAM5 | CD71 TFRC | CD73 NT5E
CD77 A4GALT | CD79A CD79A | CD8 CD8A CD8B | CD85J LILRB1 | CD85K LILRB4 | CD87 PLAUR | CD88 C5AR1 | CD90 THY1
CD94 KLRD1 | CD95 FAS | CD98 SLC3A2 SLC7A5 | CRTH2 PTGDR2 | FCERIA FCER1A | FCEPSILONRIA FCER1A | GITR TNFRSF18
GP130 IL6ST | HLAA HLA-A | HLAABC HLA-A HLA-B HLA-C | HLADP HLA-DPA1 HLA-DPB1 | HLADQ HLA-DQA1 HLA-DQB1
HLADR HLA-DRA HLA-DRB1 HLA-DRB5 | HLADRDPDQ HLA-DRA HLA-DPA1 HLA-DQA1 | IGA IGHA1 IGHA2 | IGD IGHD | IGM IGHM
IGKAPPA IGKC | IGLAMBDA IGLC1 IGLC2 IGLC3 | IGLIGHTCHAINK IGKC | IGLIGHTCHAINLAMBDA IGLC1 IGLC2 IGLC3
IL7RALPHA IL7R | INTEGRINB7 ITGB7 | INTEGRINBETA7 ITGB7 | LOX1 OLR1 | MHCII HLA-DRA HLA-DRB1 | NKG2D KLRK1
NKP46 NCR1 | OX40 TNFRSF4 | PD1 PDCD1 | PDL1 CD274 | PDL2 PDCD1LG2 | PECAM PECAM1 | PODOPLANIN PDPN
PSGL1 SELPLG | SIGLEC8 SIGLEC8 | TCR TRAC TRBC1 TRBC2 | TCRAB TRAC TRBC1 TRBC2 | TCRALPHABETA TRAC TRBC1 TRBC2
TCRB TRBC1 TRBC2 | TCRG TRGC1 TRGC2 | TCRGAMMADELTA TRDC TRGC1 TRGC2 | TCRGD TRDC TRGC1 TRGC2
TCRVA72 TRAV1-2 | TCRVALPHA72 TRAV1-2 | TCRVD2 TRDV2 | TCRVDELTA2 TRDV2 | TCRVG9 TRGV9 | TCRVGAMMA9 TRGV9
TIM3 HAVCR2 | VEGFR3 FLT4 | XCR1 XCR1
"""

_CLONE = re.compile(r"[-_. ]?(TotalSeq\w*|ADT|PROT|AB)$", re.IGNORECASE)
_INSIDE = re.compile(r"\(([^()]*)\)")
_CONTROL = re.compile(r"isotype|control|ctrl|^(mouse|rat|hamster|armenian|m|r)?igg", re.IGNORECASE)


def _plain(name: str) -> str:
    """Return a name without what panels write differently: case, hyphens, spaces, Greek letters."""
    spelled = name.upper()
    for letter in ("alpha", "beta", "gamma", "delta"):
        spelled = spelled.replace(lookup(f"Greek capital letter {letter}"), letter.upper())
    return re.sub(r"[^A-Z0-9]", "", spelled)


def _read_table(table: str) -> dict[str, tuple[str, ...]]:
    entries = (entry.split() for line in table.strip().splitlines() for entry in line.split("|"))
    return {_plain(protein): tuple(genes) for protein, *genes in entries}


ALIASES: Mapping[str, tuple[str, ...]] = _read_table(_TABLE)
"""Plain name of a protein (upper case, letters and digits alone) -> the genes of what its antibody binds."""


def gene_protein_links(genes: Sequence[str], proteins: Sequence[str]) -> list[tuple[int, int]]:
    """Return the links between genes and proteins, by their names.

    A protein belongs to the gene of the same name, whatever the case, and to the genes that :data:`ALIASES` names. What
    vendors add to a name ("_TotalSeqB") is left out, and of "B7-H1 (PD-L1)" both names count. Isotype controls belong
    to no gene.

    Parameters
    ----------
    genes, proteins
        Names.

    Returns
    -------
    Pairs of positions ``(gene, protein)``, in order of the proteins.
    """
    places: dict[str, list[int]] = {}
    for i, gene in enumerate(genes):
        places.setdefault(_plain(str(gene)), []).append(i)
    links = []
    for j, protein in enumerate(proteins):
        own = {gene for name in _names(str(protein)) for gene in (name, *map(_plain, ALIASES.get(name, ())))}
        links += [(i, j) for i in sorted({i for gene in own for i in places.get(gene, ())})]
    return links


def _names(protein: str) -> list[str]:
    """Return the plain names that an entry of a panel gives a protein; none for a control."""
    if _CONTROL.search(protein):
        return []
    bare = _CLONE.sub("", protein.strip())
    inside = _INSIDE.findall(bare)
    return [plain for name in (_INSIDE.sub("", bare), *inside) if (plain := _plain(name))]
