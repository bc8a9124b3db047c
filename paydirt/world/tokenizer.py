"""A word-level tokenizer over the world's words that can spell any other ASCII word.

Words of the world are one token each, whatever their case and whatever stands before them, so that a small model meets
"lamp" as one thing. Other words are spelled in characters (WordPiece), so a stranger's text is never unknown as long as
it is ASCII once accents are stripped. Newline, `<|user|>` and `<|assistant|>` are tokens, for the "tulu" chat form.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD, UNK = "<s>", "</s>", "<pad>", "<unk>"
CHAT_TOKENS = ("<|user|>", "<|assistant|>")
WORD = r"\n|\w+|[^\w\s]"
LARGEST_NUMBER = 200
# Decoding joins tokens by a space and then closes up these: enough to give every answer of the world back exactly.
CLOSE_LEFT = (".", ",", "?", "!", ";", ":", ")", "\n")
CLOSE_RIGHT = ("(", "\n")


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is every word in `texts`, every number to 200, and every ASCII character."""
    words = {word for text in texts for word in re.findall(WORD, text.lower())}
    words |= {str(n) for n in range(LARGEST_NUMBER + 1)} | {"\n"}
    characters = {c.lower() for c in string.printable if not c.isspace()}
    pieces = {f"##{c}" for c in characters if re.fullmatch(r"\w", c)}
    special = [PAD, UNK, BOS, EOS, *CHAT_TOKENS]
    entries = special + sorted((words | characters | pieces) - set(special))
    core = Tokenizer(
        models.WordPiece({entry: i for i, entry in enumerate(entries)}, unk_token=UNK, max_input_chars_per_word=200)
    )
    core.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    closing = [decoders.Replace(f" {mark}", mark) for mark in CLOSE_LEFT]
    opening = [decoders.Replace(f"{mark} ", mark) for mark in CLOSE_RIGHT]
    joining = decoders.WordPiece(prefix="##", cleanup=False)
    core.decoder = decoders.Sequence([joining, decoders.Fuse(), *closing, *opening])
    core.add_tokens([AddedToken(token, normalized=False) for token in CHAT_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
