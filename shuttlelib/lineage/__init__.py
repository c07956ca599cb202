"""The lineage under one budget: rows trained, measured, the story judged; behind `shuttle train --lineage`.

`training` trains rows, `measures` says what a trained one does with single samples, `claims` holds the story
against that, and `comparison` joins them. The files and pages made of it are `report.lineage`.
"""
