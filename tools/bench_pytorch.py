#!/usr/bin/env python3
"""Times PyTorch's own eager training step on one of models/architectures.py; prints one line of JSON.

    python3 tools/bench_pytorch.py resnet32 --batch-size 128 --threads 2 --steps 20

SGD with momentum 0.9 and weight decay 5e-4, everything else PyTorch's default: what people run today. Run it by turns with the
program it is compared with, each in its own process. The batch is random and stays the same; it is on the CPU.
"""
import argparse
import json
import pathlib
import resource
import statistics
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="a name of models/architectures.py, such as resnet32")
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--threads", type=int, help="default: PyTorch's choice")
parser.add_argument("--channels-last", action="store_true", help="for convolutional models")
parser.add_argument("--warmup", type=int, default=3, metavar="STEPS")
parser.add_argument("--steps", type=int, default=20)


def main():
    arguments = parser.parse_args()
    # Imported late, so that --help and wrong arguments answer at once.
    import torch
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "models"))
    from architectures import CLASSES, MODELS
    if arguments.model not in MODELS:
        parser.error(f"no model is called {arguments.model}; there are {', '.join(MODELS)}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    build, sample = MODELS[arguments.model]
    model = build().train()
    images = torch.randn(arguments.batch_size, *sample)
    labels = torch.randint(0, CLASSES, (arguments.batch_size,))
    if arguments.channels_last:
        if len(sample) != 3:
            parser.error(f"{arguments.model} takes no images, so --channels-last means nothing for it")
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    loss_of = torch.nn.CrossEntropyLoss()

    seconds = []
    for step in range(arguments.warmup + arguments.steps):
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of(model(images), labels)
        loss.backward()
        optimizer.step()
        final_loss = loss.item()
        if step >= arguments.warmup:
            seconds.append(time.perf_counter() - started)

    print(json.dumps({
        "model": arguments.model, "optimizer": "sgd", "batch_size": arguments.batch_size, "torch": torch.__version__,
        "threads": torch.get_num_threads(), "channels_last": arguments.channels_last, "steps": arguments.steps,
        "median_step_secs": round(statistics.median(seconds), 6), "fastest_step_secs": round(min(seconds), 6),
        "slowest_step_secs": round(max(seconds), 6), "loss": round(final_loss, 6),
        # Linux counts in KiB.
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main()
