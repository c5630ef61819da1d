"""Restore any images: files or folders of PNG, JPEG and whatever else Pillow opens, of any size, as PNGs."""
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.choices import FOR_PHOTOS, TILE
from facesr.utils.cli import (
    ArgumentParser,
    add_inference_arguments,
    add_override_arguments,
    add_weights_argument,
    natural_int,
)
from facesr.utils.errors import UserError, report_user_errors
from facesr.utils.terminal import say


def parse_args():
    parser = ArgumentParser(
        description=__doc__, former={'--out': '--out-dir'},
        usage='%(prog)s [CONFIG CHECKPOINT] INPUT [INPUT ...] --out-dir DIR [options]',
        epilog='PNGs are named like their inputs. Earlier ones of this tool are replaced, nothing else is. Grey images '
        'stay grey; transparency (upscaled bicubically) and ICC profiles are kept; EXIF rotation is carried out, other '
        'EXIF data are not copied; deeper colours become 8 bits.')
    add_override_arguments(parser, data=False)
    add_weights_argument(parser, f'{FOR_PHOTOS}, for photos from anywhere')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='an image, or a folder of them; before the first, '
                        'CONFIG (which ends in .py) and CHECKPOINT may stand')
    parser.add_argument('--out-dir', metavar='DIR', required=True, help='folder for the PNGs')
    parser.add_argument('--recursive', action='store_true',
                        help='take images in sub-folders too; their PNGs go to the same sub-folders of DIR')
    parser.add_argument('--skip-existing', action='store_true',
                        help='leave images alone whose PNG is there, for example to go on after an interruption')
    parser.add_argument('--tile', type=natural_int, metavar='N',
                        help='restore larger images in tiles of this side, in pixels of the input; smaller ones take '
                        f'less memory; 0: never (default: {TILE}; 1024 for NAFUNet, which takes less)')
    parser.add_argument('--overlap', type=natural_int, metavar='N',
                        help='pixels of the input by which a tile reaches over its borders, to fade into the next one '
                        '(default: measured, so that seams are below 1/255 without that)')
    parser.add_argument('--crop-faces', action='store_true',
                        help='find the faces with facexlib, align each as in FFHQ and restore it to NAME_face0.png ...')
    parser.add_argument('--face-weights', metavar='FILE',
                        help="weights of facexlib's face detector (default: those in facexlib's folder)")
    add_inference_arguments(parser)
    args = parser.parse_intermixed_args()
    args.config = args.checkpoint = None
    if Path(args.inputs[0]).suffix == '.py':
        if len(args.inputs) < 3:
            parser.error('after CONFIG come CHECKPOINT and at least one INPUT')
        args.config, args.checkpoint, *args.inputs = args.inputs
    elif args.weights is None:
        args.weights = FOR_PHOTOS
    return args


@report_user_errors
def main():
    args = parse_args()
    from facesr.checkpoint.shipped import named_network
    from facesr.config import load_config
    from facesr.inference.faces import build_face_finder
    from facesr.inference.network import network
    from facesr.inference.restore import Restorer, find_images, plan, restore_photos
    from facesr.models.build import load_model
    from facesr.utils.device import choose_device
    choose_device(args.device)
    if args.face_weights and not args.crop_faces:
        raise UserError('--face-weights: goes with --crop-faces')
    if args.skip_existing and args.crop_faces:
        raise UserError('--skip-existing: with --crop-faces it is not known which faces are missing; leave it out')
    config, checkpoint, _ = named_network(args.config, args.checkpoint, args.weights)
    images, others = find_images(args.inputs, args.recursive, args.out_dir)
    jobs = plan(images, args.out_dir, args.crop_faces, args.skip_existing,
                args.inputs if args.recursive else ())
    model = load_model(load_config(config, args.cfg_options), checkpoint, args.ema)
    device = next(model.parameters()).device
    finder = build_face_finder(args.face_weights, device) if args.crop_faces else None
    net = network(model, self_ensemble=args.self_ensemble, amp=args.amp)
    there = f'; {len(images) - len(jobs)} were there' if args.skip_existing else ''
    say(f'images: {len(jobs)}, on {device}{there}' + (f'; other files in the folders: {others}' if others else ''))

    tile = getattr(model.generator, 'tile', TILE) if args.tile is None else args.tile
    outcome = restore_photos(jobs, Restorer(net, tile, args.overlap, measured=network(model)), finder)
    for note, count in outcome.notes.items():
        say(f'{note}: {count} of them')
    say(f'written: {outcome.written} PNG files in {args.out_dir}')
    if outcome.failures:
        for failure in outcome.failures[:-1]:
            say(f'not restored: {failure}', file=sys.stderr)
        more = f' ({len(outcome.failures)} of {len(jobs)} images were not restored)' if len(jobs) > 1 else ''
        raise UserError(f'{outcome.failures[-1]}{more}')


if __name__ == '__main__':
    main()
