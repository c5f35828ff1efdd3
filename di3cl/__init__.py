__version__ = "0.1.0"


def __getattr__(name):
    "`di3cl.load`, and with it torch, is imported when it is asked for."
    if name != "load":
        raise AttributeError(f"module 'di3cl' has no attribute {name!r}")
    from di3cl.weights import load
    return load


def __dir__():
    return [*globals(), "load"]
