from pharia_kernel_sdk.cli.main import main

main()
