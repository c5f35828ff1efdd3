"""Generated tests import `fastcore.test` by star; its `test_eq` and friends are tools, not tests."""


def pytest_pycollect_makeitem(collector, name, obj):
    if getattr(obj, "__module__", collector.module.__name__) != collector.module.__name__: return []
