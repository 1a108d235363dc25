"""Warnings while a run goes on: rules that find a reason, and the log, the run and a webhook that tell it."""

from .dispatch import Alerts, open_alerts
from .rules import Alert
from .webhook import find_webhook_url

__all__ = ["Alert", "Alerts", "find_webhook_url", "open_alerts"]
