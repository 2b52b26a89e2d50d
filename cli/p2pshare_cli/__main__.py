from p2pshare_cli.main import main

main()
