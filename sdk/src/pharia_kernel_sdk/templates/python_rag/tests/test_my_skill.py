from my_skill import my_skill


def test_the_model_gets_what_was_found(csi, run_skill):
    csi.on("search", query="How long is the warranty?").answer(["The warranty is two years."])
    csi.on("chat", contains="1. The warranty is two years.").answer("Two years.")

    answer = run_skill(my_skill, {"question": "How long is the warranty?"})

    assert answer == {"answer": "Two years.", "sources": ["document-1"]}


def test_without_documents_no_model_is_asked(csi, run_skill):
    csi.on("search").answer([])

    assert run_skill(my_skill, {"question": "Who?"}) == {"answer": None, "sources": []}
