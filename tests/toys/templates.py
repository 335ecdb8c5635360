"""Chat templates of every shape seen in the wild, in a line or two each, and some to refuse."""

EOS = "</s>"

_EACH = "{% for m in messages %}"
_END = "{% endfor %}"


def _llama3_like(date: str) -> str:
    return (
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nYou help.\nDate: " + date + "<|eot_id|>"
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    )


def _inst(user: str, answer: str) -> str:
    return _EACH + "{% if m.role == 'user' %}" + user + "{% else %}" + answer + "{% endif %}" + _END


TEMPLATES = {
    "chatml": _EACH + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}" + _END,
    "chatml_with_default_system": (
        "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}"
        + _EACH
        + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}"
        + _END
    ),
    "llama3_date_string": _llama3_like("{{ date_string }}"),
    "llama3_strftime_now": _llama3_like("{{ strftime_now('%d %b %Y') }}"),
    "think_first": (  # as Qwen 3: the last answer opens with an empty think block, earlier ones do not
        _EACH + "{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' and loop.last and not enable_thinking %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m.content.split('</think>')[-1].strip() + '<|im_end|>\n' }}" + _END
    ),
    "no_end_token": "[gMASK]<sop>" + _inst("<|user|>\n{{ m.content }}", "<|assistant|>\n{{ m.content }}"),
    "trims": _EACH + "{{ '<|im_start|>' + m.role + '\n' + m.content.strip() + '<|im_end|>' }}" + _END,
    "bos_every_turn": _inst(
        "{{ bos_token }}{{ '[INST] ' + m.content + ' [/INST]' }}", "{{ ' ' + m.content + ' ' + eos_token }}"
    ),
    "model_role": (
        "{{ bos_token }}" + _EACH + "{% set role = 'model' if m.role == 'assistant' else m.role %}"
        "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}" + _END
    ),
    "harmony": (  # as gpt-oss: the last answer ends otherwise than all other messages
        "<start_of_turn>system\nYou help.<end_of_turn>"
        + _EACH
        + "<start_of_turn>{{ m.role }}\n{{ m.content }}"
        "{{ eos_token if m.role == 'assistant' and loop.last else '<end_of_turn>' }}" + _END
    ),
    "end_of_conversation": (  # as Phi 3: something behind the last turn alone
        _EACH + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}" + _END + "{{ eos_token }}"
    ),
    "one_pair_only": (
        "{% if messages | length > 2 %}{{ raise_exception('one question, one answer') }}{% endif %}"
        "{{ bos_token }}{{ '[INST]' + messages[0].content + '[/INST]' + messages[1].content + eos_token }}"
    ),
    "end_only_between_turns": (
        "{{ bos_token }}"
        + _inst(
            "{{ '[INST]' + m.content + '[/INST]' }}",
            "{{ m.content }}{% if not loop.last %}{{ eos_token }}{% endif %}",
        )
    ),
    "end_only_at_the_end": (
        "{{ bos_token }}"
        + _inst("{{ '[INST]' + m.content + '[/INST]' }}", "{{ m.content }}")
        + "{{ eos_token }}"
    ),
}

REFUSED_TEMPLATES = {  # the template, and a word of the reason
    "words_before_the_end": (_inst("[INST]{{ m.content }}", "{{ m.content + ' (over)</s>' }}"), "between"),
    "words_and_no_end": (_inst("[INST]{{ m.content }}", "{{ m.content + ' (over)' }}"), "no special token"),
    "target_twice": (
        _inst("[INST]{{ m.content }}", "{{ m.content + '</s>' + m.content }}"),
        "the target 2 times",
    ),
    "target_never": (_inst("[INST]{{ m.content }}", "Yes.</s>"), "the target 0 times"),
    "user_never": (_inst("[INST]", "{{ m.content }}</s>"), "the user's text 0 times"),
    "upper_case": (_inst("[INST]{{ m.content | upper }}", "{{ m.content | upper }}</s>"), "0 times"),
    "lower_case": (_inst("[INST]{{ m.content | lower }}", "{{ m.content | lower }}</s>"), "0 times"),
    "title_case": (_inst("[INST]{{ m.content | title }}", "{{ m.content | title }}</s>"), "0 times"),
    "target_first": (
        "{{ messages[1].content + '</s>[INST]' + messages[0].content }}",
        "expected user text, target",
    ),
    "writes_audio": (_inst("[INST]<audio>{{ m.content }}", "{{ m.content + '</s>' }}"), "writes <audio>"),
    "raises": ("{{ raise_exception('system message missing') }}", "system message missing"),
    "broken_jinja": ("{% for m in messages %}", "fails on a plain user/assistant pair"),
}

# The end-of-turn token, and what stays after it.
ENDS = {
    "chatml": ("<|im_end|>", "\n"),
    "chatml_with_default_system": ("<|im_end|>", "\n"),
    "llama3_date_string": ("<|eot_id|>", ""),
    "llama3_strftime_now": ("<|eot_id|>", ""),
    "think_first": ("<|im_end|>", "\n"),
    "no_end_token": ("", ""),
    "trims": ("<|im_end|>", ""),
    "bos_every_turn": (EOS, ""),
    "model_role": ("<end_of_turn>", "\n"),
    "harmony": (EOS, ""),
    "end_of_conversation": ("<|im_end|>", "\n</s>"),
    "one_pair_only": (EOS, ""),
    "end_only_between_turns": ("", ""),
    "end_only_at_the_end": (EOS, ""),
}

# What each does that a tokenizer could meddle with. "plain form" is what stands in for no template.
TEMPLATE_FEATURES = {
    "plain form": frozenset({"bos of the tokenizer", "space before target", "end is added"}),
    "chatml": frozenset({"no bos", "line break before target", "own end", "line break after end"}),
    "chatml_with_default_system": frozenset({"system header", "line break before target", "own end"}),
    "llama3_date_string": frozenset({"bos once", "system header", "date", "trims", "own end"}),
    "llama3_strftime_now": frozenset({"bos once", "system header", "date", "trims", "own end"}),
    "think_first": frozenset({"no bos", "think block", "trims", "own end", "line break after end"}),
    "no_end_token": frozenset({"prefix once", "line break before target", "end is added"}),
    "trims": frozenset({"no bos", "line break before target", "trims", "own end"}),
    "bos_every_turn": frozenset({"bos every turn", "space before target", "space before end", "eos is end"}),
    "model_role": frozenset({"bos once", "line break before target", "trims", "line break after end"}),
    "one_pair_only": frozenset({"bos once", "token before target", "eos is end", "one pair only"}),
    "harmony": frozenset({"no bos", "system header", "eos is end", "last turn ends otherwise"}),
    "end_of_conversation": frozenset({"no bos", "line break after end", "last turn ends otherwise"}),
    "end_only_between_turns": frozenset({"bos once", "token before target", "end is added"}),
    "end_only_at_the_end": frozenset({"bos once", "token before target", "eos is end"}),
}
