"""Write the report of a study: one HTML file with tables, figures and worst molecules, which opens offline.

`3Dmol-min.js` is 3Dmol.js 2.5.5 (npm package 3dmol) as published; its licence is in `3Dmol-LICENSE.txt`.
"""

from golf.evaluation.report.costs import LabelStage
from golf.evaluation.report.page import StudyFiles, write_report

__all__ = ["LabelStage", "StudyFiles", "write_report"]
