from my_skill import my_skill


def test_the_summary_is_passed_on_as_it_comes(csi, run_skill):
    csi.on("chat_stream", contains="A long story").answer(["It ", "ends ", "well."])

    streamed = run_skill(my_skill, {"text": "A long story"})

    (message,) = streamed.messages
    assert message.content == "It ends well."
    assert message.payload["finish_reason"] == "stop"
    pieces = [item.text for item in streamed.items if hasattr(item, "text")]
    assert pieces == ["It ", "ends ", "well."]
