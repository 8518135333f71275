"""The documentation, executed: what readers are told to type is typed, what it prints compared.

Each page is one test, in an empty folder, its blocks in order. The convention is readable on
GitHub, which ignores what stands after the language of a block:

```` ```python title="haiku.py" ````
    (any language) is written to that file of the folder. With the language ``diff`` the lines that
    begin with ``-`` or a space are looked for in the file, have to be there once, and become those
    that begin with ``+`` or a space.
```` ```console ````
    has lines ``$ command``, each followed by what it prints; ``...`` stands for anything, in a line
    or as lines of its own. A command may go on in the next line after a ``\\``, or in lines that
    begin with ``> ``. What is not shown is not compared. Commands have to succeed; with
    ``status=1`` the last one of the block exits with that. All run in one bash, so folders,
    variables and activated environments stay.
```` ```console title="second terminal" ````
    is another terminal, which begins with the folder and the environment of the first. Its last
    command may stay: it goes on in the background, and what is shown is waited for (it has to be
    the beginning of the output, so often the last line is ``...``). Another block for the same
    terminal that has a command presses Ctrl-C first; one without a command waits for more output.
    At the end of the page everything gets a Ctrl-C, and has to end.
```` ```text ````, ```` ```json ````, ```` ```mermaid ````
    without a title are illustrations.
``<!-- not executed: reason -->``
    before a block excludes it, ``<!-- this section is not executed: reason -->`` all blocks up to
    the next heading.
``<!-- setup: environment, registry, model -->``
    gives the page what a reader has: see ``tests.docs.provisions``. ``<!-- setup``, lines of bash
    and ``-->`` is for the rest, and should be rare.

Anything else (an untitled block of code) is a mistake that the tests report. The hosts
``127.0.0.1:PORT`` and ``localhost:PORT`` get free ports instead of those in the pages
(``tests.docs.ports``); what ``pip`` is told to install comes from this checkout
(``tests.docs.provisions``). ``DOCS_TIMES=FILE`` appends how long each section took, as a table.

    python -m pytest tests/docs -k tutorial

Why not a library: sybil, mktestdocs and others execute blocks one by one, mostly as Python, and
know no terminals that stay. Markdown is parsed by markdown-it-py.
"""
