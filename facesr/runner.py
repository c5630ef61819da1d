"""mmcv's iteration-based runner, with checkpoints that are safe and a resume that forgets nothing."""
import time
from pathlib import Path

from mmcv.runner import RUNNERS, IterBasedRunner

from facesr.checkpoint import CheckpointError, load_weights, point_latest_to, read_checkpoint, save_checkpoint


@RUNNERS.register_module()
class SRIterBasedRunner(IterBasedRunner):
    """`IterBasedRunner` that resumes on a CPU too and writes checkpoints atomically.

    Against mmcv 1.7.2: `resume` does not ask for a CUDA device and restores `meta['hook_msgs']`
    (best score and best checkpoint); checkpoints are read without executing pickled code and must
    fit the model entirely; a kill while saving leaves the previous checkpoint whole.
    """

    def get_hook_info(self):
        """The hooks in the order they run, in one line (mmcv lists them per stage, over a page)."""
        return ', '.join(type(hook).__name__ for hook in self.hooks)

    def load_checkpoint(self, filename, map_location='cpu', strict=True, revise_keys=()):
        """Load a checkpoint's weights; always strict. Returns the checkpoint (see `read_checkpoint`)."""
        checkpoint = read_checkpoint(filename, map_location)
        load_weights(self.model, checkpoint, filename)
        return checkpoint

    def resume(self, checkpoint, resume_optimizer=True, map_location='cpu'):
        """Continue from a checkpoint: weights, optimizers, iteration and the hooks' messages.

        Raises:
            CheckpointError: It does not fit, or it has no optimizer or iteration to go on from.
        """
        path, checkpoint = checkpoint, self.load_checkpoint(checkpoint, map_location)
        meta = checkpoint['meta']
        states = checkpoint.get('optimizer', {})
        if 'iter' not in meta or (resume_optimizer and states.keys() != self.optimizer.keys()):
            raise CheckpointError(f'{path} holds weights but not the state of a training run: '
                                  'start from it with --cfg-options load_from=... instead of --resume')
        if resume_optimizer:
            for name, optimizer in self.optimizer.items():
                optimizer.load_state_dict(states[name])
        self._epoch = meta.get('epoch', 0)
        self._iter = self._inner_iter = meta['iter']
        self.meta.setdefault('hook_msgs', {}).update(meta.get('hook_msgs', {}))

    def save_checkpoint(self, out_dir, filename_tmpl='iter_{}.pth', meta=None, save_optimizer=True,
                        create_symlink=True):
        """Save under `out_dir/filename_tmpl`, atomically; with `create_symlink`, `latest.pth` leads to it."""
        path = Path(out_dir) / filename_tmpl.format(self.iter + 1)
        # The checkpoint is taken inside iteration `iter`, so that many plus one are done.
        meta = dict(meta or {}, **(self.meta or {}), epoch=self.epoch, iter=self.iter + 1, time=time.asctime())
        save_checkpoint(path, self.model, self.optimizer if save_optimizer else None, meta)
        if create_symlink:
            point_latest_to(path)
