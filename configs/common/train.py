"""Settings of the training loop, with Detectron2's names where Detectron2 has the setting."""

train = dict(
    output_dir="./output",
    init_checkpoint="",  # file or zoo://NAME to start from or to evaluate; "": from scratch
    start_iter=0,  # first iteration of a training that continues one whose weights alone are kept
    # what follows if the weights of a checkpoint were trained for another grid, other depth bins,
    # classes, image size, normalisation or frame spacing: "error" or "warn"
    checkpoint_settings="error",
    plugins=[],  # modules that register models and parts, such as projects.BEVDepth
    trainer=None,  # subclass of fsdbev.engine.Trainer, or its MODULE.NAME with MODULE in plugins
    hooks=[],  # further hooks of the training, such as L(MyHook)()
    max_iter=90000,
    seed=0,  # -1: drawn for each training; a resumed training keeps its seed
    deterministic=False,  # same bits in each run, on GPUs too; other operations raise an error
    # number of unreadable samples that other samples may replace in the whole training. One more
    # ends it; 0: the first one does. Evaluation never skips a sample
    max_bad_samples=0,
    device="cuda",  # without a GPU: the CPU
    channels_last=True,  # layout of convolutions: the faster one on all measured processors
    amp=dict(enabled=False, dtype="bfloat16"),  # mixed precision; or "float16"
    # torch.compile for each part of the model, which adds minutes to the start of a run
    compile=dict(
        enabled=False,
        parts=None,  # names of parts; null: all parts with weights
        backend="inductor",
        mode="default",
    ),
    ddp=dict(
        # each rank keeps its BatchNorm statistics; those of rank 0 are evaluated and saved
        broadcast_buffers=False,
        find_unused_parameters=False,
        fp16_compression=False,
        static_graph=True,  # every parameter has a gradient in every iteration
        gradient_as_bucket_view=True,  # no second copy of the gradients
    ),
    # number of iterations that may be skipped in the whole training because of a loss or gradient
    # that is not finite
    max_skipped_steps=5,
    # time limits after which a job with a process that does not respond ends
    distributed=dict(
        timeout_minutes=10.0,  # of a collective, such as the reduction of gradients
        rank0_timeout_minutes=120.0,  # of rank 0's work while others wait: scoring, report, saving
    ),
    clip_grad=dict(enabled=True, max_norm=5.0),
    # averaged weights, which are evaluated. The weight of the average in update n, counted from
    # start_updates, is decay * (1 - exp(-n / warmup)) (docs/model.md, "Training data")
    ema=dict(enabled=True, decay=0.999, warmup=2000, start_updates=10560),
    checkpointer=dict(period=5000, max_to_keep=5),
    checkpoint_max_age_hours=None,  # removes older ones except for the newest two; null: no limit
    eval_period=5000,  # iterations; 0: only at the end
    eval_streaming=True,  # runs the image branch once for a frame that several samples share
    # report.html with the best and worst samples, after training and with --eval-only
    report=dict(enabled=True, samples=4),
    log_period=20,  # iterations
    # scalars for Weights & Biases, if it is installed; name "": name of the output folder
    wandb=dict(enabled=False, project="fsdbev", name="", mode="online"),  # or "offline"
    cudnn_benchmark=False,
    float32_precision="",  # of matrix products: "highest", "high", "medium"; "": torch's default
)
