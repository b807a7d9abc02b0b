"""Stored predictions, read for statistics of your own, and predictions made elsewhere beside them.

On the demo (simulated), with what `compare_two_models.py` trains.
"""

import numpy as np
from sksurv.metrics import concordance_index_censored

import survbench

results = survbench.run(["abmil", "snn"], "stad", preset="rehearsal")  # or survbench.load_results("survbench-runs")
predictions = results.predictions("snn", "stad")
tests = predictions[predictions["split"] == "test"]

folds = [concordance_index_censored(of["event"], of["time"], of["risk"])[0] for _, of in tests.groupby("fold")]
print(f"C-index of SNN by hand: {np.mean(folds):.3f}")
board = results.leaderboard().set_index("model")
print(f"on the board: {board.loc['snn', 'mean']:.3f}")

patient = tests.iloc[0]
year = np.interp(12.0, patient["grid"], patient["survival"])
print(f"patient {patient['patient']} survives a year with probability {year:.2f}")

# What another program predicts for the same patients and folds: higher risk is worse.
theirs = tests[["cohort", "fold", "patient", "time", "event"]].assign(model="theirs", risk=-tests["time"])
theirs.assign(event=theirs["event"].astype(int)).to_csv("theirs.csv", index=False)
both = results.select(models=["snn", "theirs"]).add_predictions("theirs.csv", endpoint="os")
print(both.leaderboard()[["model", "source", "mean"]])
