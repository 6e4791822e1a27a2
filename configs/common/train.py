"""Settings of the loop. The names are Detectron2's where it has the same setting."""

train = dict(
    output_dir="./output",
    init_checkpoint="",  # weights to start from or to evaluate; "": from scratch
    plugins=[],  # what registers more models and parts: modules, as projects.BEVDepth
    max_iter=90000,
    seed=0,  # -1: a new one each time; a resumed training keeps its own
    deterministic=False,  # the same bits each time, on GPUs too; an operation that cannot raises
    # samples that can't be read: 0: the first ends the training; more: others take their place,
    # and beyond so many the training ends. Evaluation never skips
    max_bad_samples=0,
    device="cuda",  # the CPU where there is no GPU
    channels_last=False,  # convolution weights in channels-last layout: faster on most machines
    amp=dict(enabled=False, dtype="bfloat16"),  # mixed precision; or "float16"
    # each part of the model by torch.compile, which takes minutes at the start of a run
    compile=dict(
        enabled=False,
        parts=None,  # their names; null: all that have weights
        backend="inductor",
        mode="default",
    ),
    ddp=dict(
        broadcast_buffers=False,
        find_unused_parameters=False,
        fp16_compression=False,
        static_graph=True,  # all parameters get a gradient in every iteration
        gradient_as_bucket_view=True,  # gradients are kept once, not twice
    ),
    # iterations with a loss that is not finite, in the whole training, before it stops
    max_skipped_steps=5,
    # how long the processes of a job wait for each other before it ends
    distributed=dict(
        timeout_minutes=10.0,  # in a collective, such as the exchange of gradients
        rank0_timeout_minutes=120.0,  # for what rank 0 does alone: scoring, the report, saving
    ),
    clip_grad=dict(enabled=True, max_norm=5.0),
    # evaluated are the averaged weights: decay * (1 - exp(-updates / warmup)) of the average stays
    ema=dict(enabled=True, decay=0.999, warmup=2000, start_updates=10560),
    checkpointer=dict(period=5000, max_to_keep=5),
    checkpoint_max_age_hours=None,  # older ones go too, but for two; None: no limit
    eval_period=5000,  # 0: only at the end
    eval_streaming=True,  # a frame that several samples share goes through the image branch once
    # --eval-only and the end of training write report.html, with so many best and worst samples
    report=dict(enabled=True, samples=4),
    log_period=20,
    # scalars to Weights & Biases as well, where it is installed; name "": that of the output folder
    wandb=dict(enabled=False, project="fsdbev", name="", mode="online"),  # or "offline"
    cudnn_benchmark=False,
    float32_precision="",  # "": torch's default; "highest", "high", "medium"
)
