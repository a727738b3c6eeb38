import pytest

from engine.stages.train import finetune
from tests.engine.teaching import Class


@pytest.mark.parametrize("prec", ["bfloat16", "float32"])
def test_real(database, home, add_artifact, tmp_path, monkeypatch, prec):
    school = Class(database, home, add_artifact, tmp_path)
    monkeypatch.setattr(finetune, "devices", lambda: ["cuda:0"])
    stage = school.lesson(lora={"quantize": "4bit"}, training={"steps": 12, "precision": prec})
    work = school.start(stage)
    seen = {}
    real = finetune.Finetune._trainer
    def trainer(self, *a):
        t = real(self, *a); seen["t"] = t; return t
    monkeypatch.setattr(finetune.Finetune, "_trainer", trainer)
    assert school.finish(work, stage)
    t = seen["t"]
    from collections import Counter
    print(Counter((type(p).__name__, str(p.dtype), p.requires_grad) for p in t.model.parameters()))
    print(t.optimizer, t.args.activation_checkpointing, t.model.is_gradient_checkpointing)
    print(school.curve(work.run), school.curve(work.run, "eval_loss"))
    print(t.summary)
    print([a.step for a in school.responses(work.run)])
    plain = school.lesson(training={"steps": 12, "precision": prec}); w2 = school.start(plain); assert school.finish(w2, plain)
    print("plain", school.curve(w2.run, "eval_loss"))
