"""The console for humans: its built front end, and spans that authors' processes report.

The runs that it shows are kept in ``telemetry.history``; the sources of the front end are in the
folder ``console`` of the repository.
"""
