"""CloudWatch metrics of the stages: lines of the log in Embedded Metric Format."""

from collections.abc import Mapping

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from schemas.events import EnrichResponse, EnrichStats, ErrorCode, FetchResponse, LoadResponse, StageResponse

NAMESPACE = "SteamLibraryImport"


def emit_done(stage: str, response: StageResponse) -> None:
    """What a stage did; its `failures` are 0, so that a rate can be told."""
    done = {"requests": response.requests, "retries": response.retries, "rejected": response.rejected or 0}
    _emit(stage, {"failures": 0, "seconds": response.seconds} | done | _rows(response))


def emit_failed(stage: str, error_code: ErrorCode, seconds: float) -> None:
    """One failure of a stage, by the stage alone and by its error code too."""
    _emit(stage, {"failures": 1, "seconds": seconds}, error_code)


def _rows(response: StageResponse) -> dict[str, int]:
    match response:
        case FetchResponse(game_count=int(rows)):
            return {"rows": rows}
        case EnrichResponse(stats=EnrichStats() as stats):
            return {"rows": stats.processed} | stats.model_dump(include={"matched", "unmatched", "pending"})
        case LoadResponse(stats=dict(stats)):
            return {"rows": stats["imported_games_created"] + stats["imported_games_updated"]}
    return {}


def _emit(stage: str, figures: Mapping[str, float], error_code: ErrorCode | None = None) -> None:
    metrics = AmazonCloudWatchEMFProvider(namespace=NAMESPACE)
    metrics.add_dimension("stage", stage)
    if error_code:
        metrics.add_dimensions(stage=stage, error_code=error_code)
    for name, figure in figures.items():
        metrics.add_metric(name, MetricUnit.Seconds if name == "seconds" else MetricUnit.Count, figure)
    metrics.flush_metrics()
