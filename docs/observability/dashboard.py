"""Writes the dashboards that Grafana imports: ``python docs/observability/dashboard.py``.

Made with Grafana's own SDK, of the group ``dashboard`` in pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef

__all__ = ["BOARDS", "HERE", "page"]

HERE: Final = Path(__file__).parent
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT: Final = 8
WIDTH: Final = 12
"""Of 24: two panels beside each other."""

CITIES: Final = {
    "Transactions": {
        "Received, by city": (
            "ops",
            'sum by (city) (rate(citychain_transactions_received_total{result="new"}[5m]))',
            "{{city}}",
        ),
        "Approved, by city": (
            "ops",
            "sum by (city) (rate(citychain_transactions_approved_total[5m]))",
            "{{city}}",
        ),
        "Refused when submitted": (
            "ops",
            "sum by (code) (rate(citychain_transactions_refused_total[5m]))",
            "{{code}}",
        ),
        "Rejected in rounds": (
            "ops",
            "sum by (code) (rate(citychain_transactions_rejected_total[5m]))",
            "{{code}}",
        ),
        "Remittances that wait": (
            "short",
            "sum by (city) (citychain_remittances_waiting)",
            "{{city}}",
        ),
        "Waiting for a round": (
            "short",
            "sum by (city) (citychain_transactions_pending)",
            "{{city}}",
        ),
    },
    "Rounds": {
        "Until sealed, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (city, le) "
            "(rate(citychain_round_sealed_seconds_bucket[5m])))",
            "{{city}}",
        ),
        "Until approved, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (city, le) "
            "(rate(citychain_round_approved_seconds_bucket[5m])))",
            "{{city}}",
        ),
        "From acknowledged to final, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (city, le) "
            "(rate(citychain_final_seconds_bucket[5m])))",
            "{{city}}",
        ),
        "Where the time goes": (
            "s",
            "sum by (step) (rate(citychain_step_seconds_sum[5m]))",
            "{{step}}",
        ),
        "Steps that failed": (
            "ops",
            "sum by (city, step) (rate(citychain_step_failures_total[5m])) > 0",
            "{{city}} {{step}}",
        ),
        "Sealed and not approved": (
            "short",
            "max by (city) (citychain_rounds_unapproved)",
            "{{city}}",
        ),
        "Transactions a round": (
            "short",
            "sum by (city) (rate(citychain_round_transactions_sum[5m])) / "
            "sum by (city) (rate(citychain_round_transactions_count[5m]))",
            "{{city}}",
        ),
        "Proof-of-history hashes a second": (
            "ops",
            "sum by (city) (rate(citychain_poh_hashes_total[5m])) / "
            'sum by (city) (rate(citychain_step_seconds_sum{step="seal"}[5m]))',
            "{{city}}",
        ),
    },
    "Servers": {
        "Cities led": ("short", "sum by (instance) (citychain_cities_leading)", "{{instance}}"),
        "Leases lost": (
            "short",
            "sum by (city) (increase(citychain_leases_lost_total[30m]))",
            "{{city}}",
        ),
        "Left of leases": (
            "s",
            "min by (instance, city) (citychain_lease_left_seconds)",
            "{{instance}} {{city}}",
        ),
        "Lag of the event loop, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (instance, le) "
            "(rate(citychain_event_loop_lag_seconds_bucket[5m])))",
            "{{instance}}",
        ),
        "CPU": ("short", "rate(process_cpu_seconds_total[5m])", "{{instance}}"),
        "Memory": ("bytes", "process_resident_memory_bytes", "{{instance}}"),
    },
}

STORAGE: Final = {
    "The way of a round": {
        "Steps that the storage takes, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (city, step, le) "
            '(rate(citychain_step_seconds_bucket{step=~"append|commit|certify"}[5m])))',
            "{{city}} {{step}}",
        ),
        "Steps of the storage that failed": (
            "ops",
            "sum by (city, step) "
            '(rate(citychain_step_failures_total{step=~"append|commit|certify"}[5m]))',
            "{{city}} {{step}}",
        ),
    },
    "Databases": {
        "Commands of the database, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (storage, command, le) "
            "(rate(citychain_storage_command_seconds_bucket[5m])))",
            "{{storage}} {{command}}",
        ),
        "Commands of the database that failed": (
            "ops",
            "sum by (storage, command) (rate(citychain_storage_command_failures_total[5m]))",
            "{{storage}} {{command}}",
        ),
        "Connections to the database": (
            "short",
            "sum by (instance, storage, state) (citychain_storage_connections)",
            "{{instance}} {{storage}} {{state}}",
        ),
    },
    "Archive": {
        "Approved and not archived": (
            "short",
            "max by (city) (citychain_rounds_unarchived)",
            "{{city}}",
        ),
        "Segments lost": ("short", "max by (city) (citychain_repair_segments_lost)", "{{city}}"),
        "Fragments made anew": (
            "short",
            "sum by (city) (increase(citychain_repair_fragments_made_total[1h]))",
            "{{city}}",
        ),
        "Stores that do not answer": (
            "short",
            "max by (city) (citychain_repair_stores_away)",
            "{{city}}",
        ),
    },
}

REPRESENTATIVES: Final = {
    "Approval": {
        "Rounds that wait for a certificate": (
            "short",
            "max by (city) (citychain_rounds_unapproved)",
            "{{city}}",
        ),
        "Until a certificate comes, 50 of 100": (
            "s",
            "histogram_quantile(0.5, sum by (city, le) "
            '(rate(citychain_step_seconds_bucket{step="approve"}[5m])))',
            "{{city}}",
        ),
        "Until a certificate comes, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (city, le) "
            '(rate(citychain_step_seconds_bucket{step="approve"}[5m])))',
            "{{city}}",
        ),
        "Approvals that failed": (
            "ops",
            'sum by (city) (rate(citychain_step_failures_total{step="approve"}[5m]))',
            "{{city}}",
        ),
    },
    "Votes": {
        "Calls of representatives": (
            "ops",
            "sum by (grpc_method, grpc_code) "
            '(rate(grpc_server_handled_total{grpc_service="citychain.v1.VoteService"}[5m]))',
            "{{grpc_method}} {{grpc_code}}",
        ),
        "Calls of representatives, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (grpc_method, le) (rate("
            'grpc_server_handling_seconds_bucket{grpc_service="citychain.v1.VoteService"}[5m])))',
            "{{grpc_method}}",
        ),
    },
}

CALLS: Final = {
    "Calls": {
        "Calls that ended": (
            "ops",
            "sum by (grpc_method) (rate(grpc_server_handled_total[5m])) > 0",
            "{{grpc_method}}",
        ),
        "Calls that failed": (
            "ops",
            'sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total{grpc_code!="OK"}[5m]))'
            " > 0",
            "{{grpc_method}} {{grpc_code}}",
        ),
        "Calls of one answer, 99 of 100": (
            "s",
            "histogram_quantile(0.99, sum by (grpc_method, le) "
            '(rate(grpc_server_handling_seconds_bucket{grpc_type="unary"}[5m])))',
            "{{grpc_method}}",
        ),
        "Under way": (
            "short",
            "sum by (grpc_method) (grpc_server_started_total) - "
            "sum by (grpc_method) (grpc_server_handled_total) > 0",
            "{{grpc_method}}",
        ),
    },
    "Messages": {
        "From callers": (
            "ops",
            "sum by (grpc_method) (rate(grpc_server_msg_received_total[5m])) > 0",
            "{{grpc_method}}",
        ),
        "To callers": (
            "ops",
            "sum by (grpc_method) (rate(grpc_server_msg_sent_total[5m])) > 0",
            "{{grpc_method}}",
        ),
    },
}

BOARDS: Final = {
    # File: title, and its rows; of each row by the title of a panel: unit, expression, legend.
    "dashboard.json": ("citychain", CITIES),
    "dashboard-storage.json": ("citychain storage", STORAGE),
    "dashboard-representatives.json": ("citychain representatives", REPRESENTATIVES),
    "dashboard-calls.json": ("citychain calls", CALLS),
}


def page(file: str) -> str:
    """A dashboard as Grafana imports it."""
    title, rows = BOARDS[file]
    others = dashboard.DashboardLink("citychain").type(DashboardLinkType.DASHBOARDS)
    board = (
        dashboard.Dashboard(title)
        .uid(title.replace(" ", "-"))
        .link(others.tags(["citychain"]).keep_time(True))
        .tags(["citychain"])
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    )
    for row, panels in rows.items():
        board = board.with_row(dashboard.Row(row))
        for title, (unit, expression, legend) in panels.items():
            query = prometheus.Dataquery().ref_id("A").expr(expression).legend_format(legend)
            panel = timeseries.Panel().title(title).unit(unit).height(HEIGHT).span(WIDTH)
            panel = panel.legend(common.VizLegendOptions().show_legend(True))
            board = board.with_panel(panel.datasource(SOURCE).with_target(query))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    for name in BOARDS:
        (HERE / name).write_text(page(name), "utf-8")
