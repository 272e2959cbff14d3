import sys
sys.path.insert(0,'/work/main/tests/e2e')
import pytest
CASES = [
 ["method=flcr"],["-m","method=flrc,flcr"],["rte=0.3"],["calibration.sample=3"],["evaluation.zeroshot.limit=3"],["rate=1.2"],["rate=-0.1"],["rate=abc"],
 ["model=local","model.path=/does/not/exist"],["model=local"],["data.root=/nope"],["calibration.samples=4000"],["calibration.dialogues=400"],
 ["allocator=uniform","allocator.minimum_rank=20","rate=0.6"],["evaluation.summarization.num_beams=2"],["device=cuda"],["device=cda"],
 ["schedule.offsets=[-0.1,0.2]"],["allocator=replay"],["sensitivity=none"],["method="],["method=null"],["rate=[0.2"],["rate"],["model=llama3_8b"],
 ["calibration=wikitext3"],["evaluation=[perplexity,rouge]"],["evaluation=[]"],["evaluation.perplexity.windows=4000"],["evaluation.perplexity.length=100000"],
 ["evaluation.perplexity.datasets=[wikitext3]"],["seed=x"],["dtype=float31"],["threads=0"],["allocator=null"],["+foo=1"],["calibration.datasets=[wikitext3]"],
 ["rate=0.05"],["model.shape=tiny_lama"],["data=folder","data.root="],["method=flrc,svdllm"],["rate=0.2,0.3"],["force=maybe"],["name=3"],["allocator.name=uniform"],
 ["evaluation.summarization.datasets=[wikitext2]"],["evaluation.perplexity.datasets=[dialogsum]"],["evaluation.summarization.max_prompt_tokens=3"],
 ["evaluation.summarization.bertscore_model=foo"],["evaluation.summarization.bertscore_model=roberta-large"], ["dtype=float16"],["device=meta"],["rate=20"],["rate=nan"],
 ["decomposition.cutoff=2"],["decomposition=svd","decomposition.cutoff=0.1"],["--rate=0.2"],["method=dense","sensitivity=fisher"],["method=svdllm","allocator.floor=0.1"],
]
@pytest.mark.parametrize("args", CASES, ids=[" ".join(c) for c in CASES])
def test_probe(call, place, args):
    try:
        ended = call("calibration.dialogues=4", *args) if "calibration=wikitext3" not in args else call(*args)
    except BaseException as e:
        open('/tmp/e2e/probe.out','a').write(f"=== {args}\nRAISED {type(e)} {e}\n"); return
    left=[str(p.relative_to(place.path)) for p in place.path.rglob('*') if p.is_file()]
    open('/tmp/e2e/probe.out','a').write(f"=== {args}\ncode {ended.code} traceback {'Traceback' in ended.text}\nOUT {ended.out[-900:]}\nERR {ended.err[-1800:]}\nLEFT {left}\n")
