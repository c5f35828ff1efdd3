"""Generated tests import `fastcore.test` by star: those are tools."""


def pytest_pycollect_makeitem(collector, name, obj):
    here = collector.module.__name__
    if getattr(obj, "__module__", here) != here:
        return []
