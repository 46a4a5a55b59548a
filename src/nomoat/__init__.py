"""nomoat: make a small open language model your own, in one evening, on one laptop without a GPU.

    import nomoat

    base = nomoat.pull("smollm2-135m-instruct")
    rows = nomoat.add_data("my.jsonl", name="mine")
    adapter = nomoat.tune("mine", base="smollm2-135m-instruct", name="scribe")
    print(nomoat.judge("scribe", data="mine"))
    print(nomoat.generate("smollm2-135m-instruct+scribe", "Hello!"))

Nothing heavy is imported until a function is called.
"""

__version__ = "0.1.0"
