"""The reader `cvss`: CVSS-C or CVSS-T, with its source speech of Common Voice and CoVoST 2.

What the archives unpack to, for French:

    <common_voice>/validated.tsv                    path, sentence and more, of release 4
    <common_voice>/clips/common_voice_fr_17299384.mp3
    <covost>/covost_v2.fr_en.tsv                    path, translation, split
    <covost>/covost_v2.fr_en.train.tsv              path, sentence, translation, client_id
    <cvss>/train.tsv                                clip and normalised text, without a header
    <cvss>/train/common_voice_fr_17299384.mp3.wav

CoVoST 2's archive holds the first of its files; its own script makes of that and `validated.tsv`
the second, one a split, which is read in their place where it is there. None of them has quoting.
All but those of CVSS may have a backslash before a character that is meant literally.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from raystt.config.corpus import SPLITS
from raystt.readers.tables import (
    Listing,
    ReaderError,
    Row,
    clean,
    read_table,
)
from raystt.readers.utterance import Quarantined, Recording, Utterance

# CVSS has codes of languages, Common Voice and CoVoST 2 have codes of regions.
_REGIONS = {"zh": "zh-CN", "sv": "sv-SE"}
_OTHER_CODE = _REGIONS | {region: code for code, region in _REGIONS.items()}


class CvssReader:
    """Read sentence pairs of CVSS. Source text: Common Voice's; target text: CVSS' normalised one.

    Both stay as they are, except that white space is collapsed: Common Voice has upper case and
    punctuation, CVSS the words as they are spoken. The id is the clip's name without `.mp3`.

    The rows are those of CVSS; clips of CoVoST 2 or Common Voice that it does not have are passed
    over. A row is quarantined if it is not UTF-8 or has other than two fields, if its clip came
    before, if CoVoST 2 does not have the clip in this split, or if a text is empty or an audio file
    missing.
    """

    def __init__(self, common_voice: str, covost: str, cvss: str, target: str) -> None:
        """Remember where things are; nothing is opened yet.

        Args:
            common_voice: directory of a language of Common Voice 4, with `clips/`.
            covost: directory of CoVoST 2's TSV files.
            cvss: directory of a language pair of CVSS.
            target: target language, "en".

        In the directories `{language}` and `{target}` stand for the two languages.
        """
        self._sources = {"common_voice": common_voice, "covost": covost, "cvss": cvss}
        self._target = target
        self.tables: list[str] = []

    def read(self, language: str, split: str) -> tuple[list[Utterance], list[Quarantined]]:
        """Return the usable rows of a split in file order, and the rows that are not usable.

        No audio is decoded.

        Raises:
            ReaderError: a table is missing or lacks a column, or the split has no rows.
        """
        if split not in SPLITS:
            raise ReaderError(f"CVSS has no split {split!r}; ask for one of {', '.join(SPLITS)}")
        cvss = self._directory("cvss", language, f"{split}.tsv")
        table = os.path.join(cvss, f"{split}.tsv")
        fix = f"unpack CVSS' archive of {language}-{self._target} there, or correct {_key('cvss')}"
        rows = list(self._read(table, ("clip", "text"), header=False, fix=fix))
        if not rows:
            raise ReaderError(f"{table}: the file is empty; {fix}")
        clips = self._directory("common_voice", language, "clips")
        clips = os.path.abspath(os.path.join(clips, "clips"))
        speech = os.path.abspath(os.path.join(cvss, split))
        sentences = self._sentences(language, split, {clean(row.values[0]) for row in rows})

        utterances: list[Utterance] = []
        quarantined: list[Quarantined] = []
        listing = Listing()
        lines: dict[str, int] = {}  # of the clips that are kept
        for number, values, fault in rows:
            clip, text = map(clean, values)
            sentence, gap = sentences.get(clip, ("", f"not in split {split} of CoVoST 2"))
            source, target = f"{clips}/{clip}", f"{speech}/{clip}.wav"
            if clip in lines:
                fault = fault or f"the clip is that of line {lines[clip]}"
            if not text:
                fault = fault or "no target text"
            fault = fault or gap
            for side, path in (("source", source), ("target", target)):
                fault = fault or listing.fault(side, path)
            identity = clip.removesuffix(".mp3")
            if fault:
                where = f"{table}:{number}"
                quarantined.append(Quarantined(language, split, identity, where, fault))
                continue
            lines[clip] = number
            sides = Recording(source, sentence), Recording(target, text)
            utterances.append(Utterance(identity, language, split, *sides))
        return utterances, quarantined

    def unplaced(self) -> list[Quarantined]:
        """Return nothing: every table is of one language and split."""
        return []

    def _sentences(
        self, language: str, split: str, wanted: set[str]
    ) -> dict[str, tuple[str, str | None]]:
        """Return sentence and fault, by clip, of the wanted clips that the split has."""
        name = self._covost_name(language)
        covost = self._directory("covost", language, f"{name}.{split}.tsv", f"{name}.tsv")
        table = os.path.join(covost, f"{name}.{split}.tsv")
        if os.path.exists(table):
            fix = "make the file again with CoVoST 2's script, or remove it"
            return self._transcripts(table, wanted, fix)
        table = os.path.join(covost, f"{name}.tsv")
        fix = f"unpack CoVoST 2's archive {name}.tsv.tar.gz there, or correct {_key('covost')}"
        # As its script does: version 2 adds to train, and to nothing else, what only CoVoST has.
        splits = (split, f"{split}_covost") if split == "train" else (split,)
        members = {
            row.values[0]
            for row in self._read(table, ("path", "split"), escapes=True, fix=fix)
            if row.values[1] in splits and row.values[0] in wanted
        }
        name = "validated.tsv"
        table = os.path.join(self._directory("common_voice", language, name), name)
        fix = f"unpack Common Voice 4 in {language} there, or correct {_key('common_voice')}"
        unknown: tuple[str, str | None] = ("", f"not in {table}")
        return dict.fromkeys(members, unknown) | self._transcripts(table, members, fix)

    def _transcripts(
        self, path: str, wanted: set[str], fix: str
    ) -> dict[str, tuple[str, str | None]]:
        found: dict[str, tuple[str, str | None]] = {}
        for number, (clip, text), fault in self._read(
            path, ("path", "sentence"), escapes=True, fix=fix
        ):
            if clip in wanted and clip not in found:
                sentence = clean(text)
                if not sentence:
                    fault = fault or "no sentence"
                found[clip] = (sentence, f"{path}:{number}: {fault}" if fault else None)
        return found

    def _read(
        self,
        path: str,
        columns: Sequence[str],
        *,
        fix: str,
        header: bool = True,
        escapes: bool = False,
    ) -> Iterator[Row]:
        self.tables.append(path)
        return read_table(path, columns, fix=fix, header=header, escapes=escapes)

    def _covost_name(self, language: str) -> str:
        return f"covost_v2.{_REGIONS.get(language, language)}_{self._target}"

    def _directory(self, source: str, language: str, *members: str) -> str:
        """Resolve a directory; of the codes a language has, take the one with such a member."""
        template = self._sources[source].replace("{target}", self._target)
        codes = (language, _OTHER_CODE.get(language, language))
        found = [template.replace("{language}", code) for code in codes]
        for path in found:
            if any(os.path.exists(os.path.join(path, member)) for member in members):
                return path
        return found[0]


def _key(source: str) -> str:
    return f"corpus.sources.{source}"
