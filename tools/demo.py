"""Run the main job on the embedded sample to the end: about two minutes on two CPU cores."""

import _bootstrap  # noqa: F401

from facesr.cli import ArgumentParser
from facesr.demo import run_demo
from facesr.errors import report_user_errors


@report_user_errors
def main():
    ArgumentParser(description=__doc__).parse_args()
    made = run_demo()
    print('\nDone. What you have now:')
    for what, path in made.items():
        print(f'  {what:<24}{path}')


if __name__ == '__main__':
    main()
