"""Template matching: a bank of templates, the score map of a micrograph, its peaks, and calibrated thresholds."""

from napari_pickbias.matching.band import band_limited
from napari_pickbias.matching.bank import TemplateBank
from napari_pickbias.matching.peaks import find_peaks
from napari_pickbias.matching.prepared import prepare_bank
from napari_pickbias.matching.scores import score_map

__all__ = ["TemplateBank", "band_limited", "find_peaks", "prepare_bank", "score_map"]
