"""Figures of a study, of what it learned from and of how it went, as in ``optuna.visualization``.

Every function returns a plotly figure: show it with ``.show()``, change it with
``.update_layout()``, keep it with ``.write_html()``. plotly is an extra of its own:
``pip install "optuna_peppp[visualization]"``.
"""

from optuna_peppp.visualization.frontier import plot_frontier
from optuna_peppp.visualization.learned import plot_embeddings, plot_error_matrix
from optuna_peppp.visualization.regret import plot_regret_history

__all__ = ["plot_embeddings", "plot_error_matrix", "plot_frontier", "plot_regret_history"]
