"""A corpus whose words and names would be markup, or a template, if they were taken for one."""

import json
import shutil
from pathlib import Path

from toys.samples import XTTS

ATTACK = (
    '<img src=x onerror="window.broken=1"> ${window.broken=2} '
    '{{constructor.constructor("window.broken=3")()}} <script>window.broken=4</script>'
)
_NAME = "edu<img src=x onerror=broken=5>${broken=6}{{x}}_1_4"


def hostile_corpus(folder: Path) -> Path:
    """A copy of the published sample: one conversation attacks, two clips have faults."""
    corpus = Path(shutil.copytree(XTTS, folder / XTTS.name))
    mine = corpus / "data/dialogues_phi4-mini"
    told = json.loads((mine / "education_1_4.json").read_text("utf-8"))
    told["conversation"][0]["text"] = ATTACK
    told["conversation"][1]["text"] = "</div></section><style>*{display:none}</style> &lt;b&gt; `${1+1}`"
    (mine / "education_1_4.json").write_text(json.dumps(told), "utf-8")
    (mine / "education_1_4/metadata.tsv").unlink()  # it has the words as well
    for end in ("", ".json"):
        (mine / f"education_1_4{end}").rename(mine / f"{_NAME}{end}")
    clip = min((corpus / "data/dialogues_llama3-8B_cohere7B/health_2_4/segments").glob("*.wav"))
    clip.write_bytes(clip.read_bytes()[:956])
    max((mine / "travel_2_3/segments").glob("*.wav")).unlink()
    return corpus
