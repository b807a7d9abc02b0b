"""Two models on one cohort of the demo (simulated): the board, a paired comparison, risk groups, predictions.

`preset="rehearsal"` is a quick look whether everything runs; leave it out for results.
"""

import survbench

cohort = survbench.load_cohort("stad")  # data="DATA" for a data root of your own
print(cohort)

results = survbench.run(["abmil", "snn"], "stad", preset="rehearsal")
print(results)

board = results.leaderboard()
print(board[["model", "cohort", "data", "mean", "sd"]])

difference = results.compare("abmil", "snn")
print(difference[["first", "second", "difference", "low", "high", "patient_low", "patient_high", "p_holm"]])

figure = results.km("snn", "stad")
figure.savefig("km-snn-stad.png", dpi=150)

fold = results.predictions("snn", "stad", fold=0)
print(fold[["patient", "split", "time", "event", "risk"]])
