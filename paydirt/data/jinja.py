"""Our chat forms as Jinja templates, for tokenizers that others load: the same text, and marks around what is learnt.

What enters: an encoder. What leaves: a template for `tokenizer.chat_template` that renders what the encoder encodes (texts
that spell special tokens aside, which stay text here and become tokens there). `{% generation %}` marks the answers, so that
`apply_chat_template(return_assistant_tokens_mask=True)`, TRL's `assistant_only_loss` and axolotl find the same mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paydirt.data.encoding import Encoder

TULU = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'].strip() + eos_token }}%NEWLINE%{% endgeneration %}%AFTER%"
    "{% else %}{{ message['content'].strip() + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
LLAMA2 = (
    "{% set ns = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{% set ns.system = (ns.system + '\\n\\n' if ns.system else '') + message['content'].strip() %}"
    "{% elif message['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if ns.system %}{{ '<<SYS>>\\n' + ns.system + '\\n<</SYS>>\\n\\n' }}{% set ns.system = '' %}{% endif %}"
    "{{ message['content'].strip() + ' [/INST]' }}"
    "{% else %}{% generation %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endgeneration %}{% endif %}"
    "{% endfor %}"
)


def jinja_of(encoder: Encoder) -> str:
    """The template of the encoder's form; of form `tokenizer` the tokenizer's own, as it is."""
    if encoder.config.template == "tokenizer":
        return str(encoder.tokenizer.chat_template)
    if encoder.config.template == "llama2":
        return LLAMA2 if encoder.tokenizer.bos_token else LLAMA2.replace("bos_token + ", "")
    newline, nothing = "{{ '\\n' }}", ""
    inside, after = (newline, nothing) if encoder.config.newline_label else (nothing, newline)
    opened = "{{ bos_token }}" if encoder.opens_with_bos else ""
    return opened + TULU.replace("%NEWLINE%", inside).replace("%AFTER%", after)
