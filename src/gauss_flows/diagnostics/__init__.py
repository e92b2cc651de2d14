"""Numbers and pictures that say whether a fit is good."""

from gauss_flows.diagnostics.audit import (
    Discrepancy,
    FlowAudit,
    LayerAudit,
    audit_flow,
    draw_audit,
)
from gauss_flows.diagnostics.calibration import (
    Calibration,
    draw_interval_calibration,
    interval_calibration,
    pit_values,
    quantile_calibration,
)
from gauss_flows.diagnostics.classifier import (
    ClassifierTest,
    classifier_two_sample_test,
    draw_classifier_two_sample_test,
)
from gauss_flows.diagnostics.columns import ColumnTable, column_table, draw_columns
from gauss_flows.diagnostics.energy import EnergyDistance, draw_energy_distance, energy_distance
from gauss_flows.diagnostics.henze_zirkler import (
    HenzeZirkler,
    draw_henze_zirkler,
    henze_zirkler,
)
from gauss_flows.diagnostics.layers import LayerStates, draw_layer_states, layer_states
from gauss_flows.diagnostics.quantiles import (
    PITTable,
    QQTable,
    draw_pit,
    draw_qq,
    pit_table,
    qq_table,
)
from gauss_flows.diagnostics.report import Report, report
from gauss_flows.diagnostics.words import Verdict

__all__ = [
    "Calibration",
    "ClassifierTest",
    "ColumnTable",
    "Discrepancy",
    "EnergyDistance",
    "FlowAudit",
    "HenzeZirkler",
    "LayerAudit",
    "LayerStates",
    "PITTable",
    "QQTable",
    "Report",
    "Verdict",
    "audit_flow",
    "classifier_two_sample_test",
    "column_table",
    "draw_audit",
    "draw_classifier_two_sample_test",
    "draw_columns",
    "draw_energy_distance",
    "draw_henze_zirkler",
    "draw_interval_calibration",
    "draw_layer_states",
    "draw_pit",
    "draw_qq",
    "energy_distance",
    "henze_zirkler",
    "interval_calibration",
    "layer_states",
    "pit_table",
    "pit_values",
    "qq_table",
    "quantile_calibration",
    "report",
]
