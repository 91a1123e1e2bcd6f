"""The page: a whole calibration without a programme, and a place to look at runs.

It computes nothing. It reads the files of data sets and runs, calls the functions that draw them,
and hands command lines to the job runner; `microcalibrate dashboard` starts it.
"""
